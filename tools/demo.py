"""`make demo`: from photos to pictures on a real ComfyUI server, and one contact sheet to look at.

Runs workflow 1 (training with class images, then pictures) and workflow 3 (DCI against plain sampling) over HTTP, as
their API files stand, and keeps everything under `.demo/`.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .comfyui_server import Client, Server
from .install_comfyui import ROOT

FOLDER = ROOT / ".demo"
API_FORMS = ROOT / "workflows" / "api"
PHOTOS = ROOT / "workflows" / "photos"
WORKFLOWS = ("01 DreamBooth LoRA with prior preservation", "03 DCI against plain sampling")
TILE, GAP, LABEL, COLUMNS = 192, 8, 34, 4
# The pocket model is too small for two threads, which lose more than they gain as soon as a core is shared.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

log = logging.getLogger("demo")


class Row(NamedTuple):
    """A line of the contact sheet."""

    label: str
    pictures: list[Image.Image]


def load_graph(name: str) -> dict[str, Any]:
    """A workflow in API form."""
    return json.loads((API_FORMS / f"{name}.json").read_text(encoding="utf-8"))


def pictures_titled(client: Client, graph: Mapping[str, Any], outputs: Mapping[str, Any],
                    title: str) -> list[Image.Image]:
    """The pictures of the node with this title."""
    (node,) = (number for number, node in graph.items() if node["_meta"]["title"] == title)
    return [Image.open(io.BytesIO(client.download(entry))).convert("RGB") for entry in outputs[node]["images"]]


def prompt_of(graph: Mapping[str, Any]) -> str:
    """The prompt of a workflow, with {V} for the identifier."""
    return next(node["inputs"]["string"] for node in graph.values() if node["class_type"] == "StringReplace")


def run_workflows(client: Client) -> Iterator[Row]:
    """Run both workflows and yield what they show, in the order of the sheet."""
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("personalize_dog_[0-9].png"))]
    yield Row("The photos: a subject that the model has never seen", photos)
    train, compare = map(load_graph, WORKFLOWS)
    outputs = client.run(train, timeout=1800)
    yield Row("Class images: 'a dog' from the model as it was", pictures_titled(client, train, outputs, "Class images"))
    trained = pictures_titled(client, train, outputs, "Your subject")
    yield Row(f"After training: '{prompt_of(train)}'", trained)
    outputs = client.run(compare, timeout=1800)
    plain, dci = (pictures_titled(client, compare, outputs, title) for title in ("Plain", "With DCI"))
    yield Row(f"Without DCI: '{prompt_of(compare)}'", plain)
    yield Row("With DCI: same prompt, same seed", dci)


def contact_sheet(rows: list[Row]) -> Image.Image:
    """One picture with a labelled line of tiles per row."""
    width = GAP + COLUMNS * (TILE + GAP)
    sheet = Image.new("RGB", (width, len(rows) * (LABEL + TILE + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, row in enumerate(rows):
        top = GAP + number * (LABEL + TILE + GAP)
        draw.text((GAP, top + 4), row.label, "black", font)
        for column, picture in enumerate(row.pictures[:COLUMNS]):
            tile = picture.resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (GAP + column * (TILE + GAP), top + LABEL))
    return sheet


def main() -> int:
    """Run, and say where everything is."""
    logging.basicConfig(level=logging.INFO, format="demo: %(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped, too
    start = time.monotonic()
    log.info("starting ComfyUI; its log is %s", FOLDER / "server.log")
    rows = []
    with Server(FOLDER, environment=ONE_THREAD | os.environ) as server:
        for row in run_workflows(server.client):
            log.info("%3.0f s  %s", time.monotonic() - start, row.label)
            rows.append(row)
    sheet = FOLDER / "contact_sheet.png"
    contact_sheet(rows).save(sheet)
    log.info("pictures: %s", FOLDER / "output")
    log.info("saved personalization: %s", FOLDER / "models" / "loras" / "personalize")
    log.info("contact sheet: %s", sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
