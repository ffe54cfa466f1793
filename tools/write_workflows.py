"""`make workflows`: writes `workflows/*.json` (the editor's form), `workflows/api/*.json` (what POST /prompt takes) and
the blueprint in `subgraphs/`.

A real server says which inputs and outputs the nodes have. With ``--run`` it also runs every workflow (or those of the
numbers that follow), makes the gallery's pictures from what comes out, and keeps two personalizations as the examples
that others load: workflow 1's, and one that is overfitted on purpose (number ``overfitted``).
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .comfyui_server import Client, Server
from .graphs import Graph, api_form, ui_form
from .install_comfyui import ROOT
from .thumbnails import STORIES, keep_pictures, write_thumbnail
from .workflow_graphs import workflows
from .workflow_graphs.overfitted_example import overfitted_example
from .workflow_graphs.parts import EXAMPLE_FILE, FILE, OVERFITTED, OVERFITTED_FILE
from .workflow_graphs.your_subject import BLUEPRINT, as_blueprint

FOLDER = ROOT / "workflows"
EXAMPLES = FOLDER / "personalizations"
OVERFITTED_NUMBER = "overfitted"
"""In the place of a workflow's number on the command line."""
OVERFITTED_FORM = EXAMPLES / Path(OVERFITTED_FILE).with_suffix(".json")
"""How the file beside it came about."""

log = logging.getLogger("workflows")


def write_json(path: Path, content: Any) -> None:
    """Readable, and the same bytes for the same content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_forms(graph: Graph, object_info: Mapping[str, Any]) -> None:
    """Write both forms of a workflow."""
    write_json(FOLDER / f"{graph.name}.json", ui_form(graph, object_info))
    write_json(FOLDER / "api" / f"{graph.name}.json", api_form(graph, object_info))


def saved_pictures(client: Client, graph: Mapping[str, Any],
                   outputs: Mapping[str, Any]) -> dict[str, list[Image.Image]]:
    """The pictures that a run's Save Image nodes wrote, by the node's title.

    Args:
        graph: in API form.
    """
    return {graph[number]["_meta"]["title"]: [Image.open(io.BytesIO(client.download(entry))).convert("RGB")
                                              for entry in outputs[number]["images"]]
            for number in outputs if graph[number]["class_type"] == "SaveImage"}


def run_and_keep(server: Server, graph: Graph, object_info: Mapping[str, Any]) -> None:
    """Run a workflow as it stands; keep its pictures as a thumbnail, and workflow 1's personalization."""
    form = api_form(graph, object_info)
    outputs = server.client.run(form, timeout=7200)
    keep_pictures(graph.name, saved_pictures(server.client, form, outputs))
    write_thumbnail(graph.name)
    if graph.name.startswith("01 "):
        keep_example(server, FILE, EXAMPLE_FILE)


def keep_example(server: Server, saved: str, file: str) -> None:
    """Keep what a run saved among the LoRAs as one of the examples."""
    EXAMPLES.mkdir(exist_ok=True)
    shutil.copyfile(server.base / "models" / "loras" / f"{saved}.safetensors", EXAMPLES / file)


def parse(arguments: Sequence[str] | None) -> frozenset[str]:
    """The numbers to run: none without ``--run``, all whose models are here with it alone, else those behind it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    every = [*(number for number, story in STORIES.items() if story.results), OVERFITTED_NUMBER]
    parser.add_argument("--run", nargs="*", metavar="NUMBER", choices=[*STORIES, OVERFITTED_NUMBER],
                        help=f"run workflows and keep their pictures: {', '.join(every)} where no number is given")
    given = parser.parse_args(arguments).run
    return frozenset(every if given == [] else given or [])


def main(arguments: Sequence[str] | None = None) -> None:
    """Write everything; pictures and the examples only where asked for."""
    wanted = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    graphs = [build() for build in workflows()]
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        object_info = server.client.object_info()
        write_json(ROOT / "subgraphs" / f"{BLUEPRINT}.json", as_blueprint(object_info))
        write_json(OVERFITTED_FORM, form := api_form(overfitted_example(), object_info))
        if OVERFITTED_NUMBER in wanted:
            server.client.run(form, timeout=7200)
            keep_example(server, OVERFITTED, OVERFITTED_FILE)
        for graph in graphs:
            write_forms(graph, object_info)
            log.info("wrote %s", graph.name)
            if graph.name.split()[0] in wanted:
                run_and_keep(server, graph, object_info)


if __name__ == "__main__":
    main()
