"""`make workflows`: writes `workflows/*.json` (the editor's form) and `workflows/api/*.json` (what POST /prompt takes).

A real server says which inputs and outputs the nodes have. With ``--run`` it also runs every workflow (or those of the
numbers that follow), makes the gallery's pictures from what comes out, and keeps workflow 1's personalization as the
example that workflow 4 loads.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from .comfyui_server import Client, Server
from .graphs import Graph, api_form, ui_form
from .install_comfyui import ROOT
from .workflow_graphs import workflows
from .workflow_graphs.parts import EXAMPLE_FILE, FILE

FOLDER = ROOT / "workflows"
EXAMPLE = FOLDER / "personalizations" / EXAMPLE_FILE
THUMBNAIL = 384

log = logging.getLogger("workflows")


def write_json(path: Path, content: Any) -> None:
    """Readable, and the same bytes for the same content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_forms(graph: Graph, object_info: Mapping[str, Any]) -> None:
    """Write both forms of a workflow."""
    write_json(FOLDER / f"{graph.name}.json", ui_form(graph, object_info))
    write_json(FOLDER / "api" / f"{graph.name}.json", api_form(graph, object_info))


def saved_pictures(client: Client, outputs: Mapping[str, Any]) -> list[Image.Image]:
    """Every picture that a run's Save Image nodes wrote, loss curves left out."""
    entries = [entry for node in outputs.values() for entry in node.get("images", [])]
    kept = [entry for entry in entries if entry["type"] == "output" and "_loss_" not in entry["filename"]]
    return [Image.open(io.BytesIO(client.download(entry))).convert("RGB") for entry in kept]


def thumbnail(pictures: list[Image.Image]) -> Image.Image:
    """Four pictures in a square."""
    tile = THUMBNAIL // 2
    square = Image.new("RGB", (THUMBNAIL, THUMBNAIL))
    for number in range(4):
        picture = pictures[number * len(pictures) // 4]
        picture = ImageOps.pad(picture, (tile, tile), Image.Resampling.LANCZOS, color="white")
        square.paste(picture, (number % 2 * tile, number // 2 * tile))
    return square


def run_and_keep(server: Server, graph: Graph, object_info: Mapping[str, Any]) -> None:
    """Run a workflow as it stands; keep its pictures as a thumbnail, and its personalization as the example."""
    outputs = server.client.run(api_form(graph, object_info), timeout=7200)
    thumbnail(saved_pictures(server.client, outputs)).save(FOLDER / f"{graph.name}.jpg", quality=88)
    if not (saved := server.base / "models" / "loras" / f"{FILE}.safetensors").exists():
        return
    EXAMPLE.parent.mkdir(exist_ok=True)
    shutil.copyfile(saved, EXAMPLE)


def is_asked_for(graph: Graph) -> bool:
    """Whether the command line asks to run a workflow: ``--run`` alone all of them, else those of its numbers."""
    if "--run" not in sys.argv:
        return False
    numbers = sys.argv[sys.argv.index("--run") + 1:]
    return not numbers or graph.name.split()[0] in numbers


def main() -> None:
    """Write everything; pictures and the example only where asked for."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    graphs = [build() for build in workflows()]
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        object_info = server.client.object_info()
        for graph in graphs:
            write_forms(graph, object_info)
            log.info("wrote %s", graph.name)
            if is_asked_for(graph):
                run_and_keep(server, graph, object_info)


if __name__ == "__main__":
    main()
