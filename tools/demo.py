"""`make demo`: from photos to pictures on a real ComfyUI server, and one contact sheet to look at.

Runs workflow 1 (training with class images, then pictures, of which one prompt after the other is tried), workflow 3
(DCI against plain sampling) and workflow 13 (two subjects) over HTTP, as their API files stand, and keeps everything
under `.demo/`.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .comfyui_server import Client, Server
from .install_comfyui import ROOT

FOLDER = ROOT / ".demo"
API_FORMS = ROOT / "workflows" / "api"
PHOTOS = ROOT / "workflows" / "photos"
TRAIN, COMPARE, TOGETHER = ("01 Your pet in a new place (DreamBooth LoRA)", "03 Prompt obeyed, subject kept (DCI)",
                            "13 Two subjects in one picture (DCI)")
EDITS: Final = ("a {V} dog in the snow", "a {V} dog in the jungle", "a {V} dog on the beach",
                "a pencil drawing of a {V} dog")
"""What the subject is asked for after training, one picture each: three places and a style."""
TILE, GAP, LABEL, CAPTION, COLUMNS = 320, 12, 56, 36, 4
INK, PAPER, MARK = "#1c1c1c", "#ffffff", "#c2571a"

log = logging.getLogger("demo")


class Row(NamedTuple):
    """A line of the contact sheet."""

    label: str
    pictures: Sequence[Image.Image]
    captions: Sequence[str] = ()
    """A line below each picture."""
    is_step: bool = True
    """Whether it is the next thing that happens; otherwise it is compared with the row above."""


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
    return str(_prompt_node(graph)["inputs"]["string"])


def in_words(prompt: str) -> str:
    """A prompt as a stranger reads it."""
    return prompt.replace("a {V}", "your")


def with_prompt(graph: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    """A copy of a workflow with another prompt. What does not depend on it is not run again by the same server."""
    changed: dict[str, Any] = json.loads(json.dumps(graph))
    _prompt_node(changed)["inputs"]["string"] = prompt
    return changed


def _prompt_node(graph: Mapping[str, Any]) -> dict[str, Any]:
    return next(node for node in graph.values() if node["class_type"] == "StringReplace")


def run_workflows(client: Client) -> Iterator[Row]:
    """Run the workflows and yield what they show, in the order of the sheet."""
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("personalize_dog_[0-9].png"))]
    yield Row("Your photos: a subject that the model has never seen", photos)
    train, compare, together = map(load_graph, (TRAIN, COMPARE, TOGETHER))
    outputs = client.run(with_prompt(train, EDITS[0]), timeout=1800)
    yield Row("Class images: what the model calls 'a dog'", pictures_titled(client, train, outputs, "Class images"))
    edited = [pictures_titled(client, train, outputs, "Your subject")[0]]
    for prompt in EDITS[1:]:
        outputs = client.run(with_prompt(train, prompt), timeout=1800)
        edited.append(pictures_titled(client, train, outputs, "Your subject")[0])
    yield Row("After training: your subject, wherever you want it", edited, [in_words(prompt) for prompt in EDITS])
    outputs = client.run(compare, timeout=1800)
    plain, dci = (pictures_titled(client, compare, outputs, title) for title in ("Plain", "With DCI"))
    yield Row(f"Learned from one photo by heart, asked for {in_words(prompt_of(compare))}", [photos[1], *plain],
              ["its only photo", *["sampled as usual"] * len(plain)])
    yield Row("The same model, prompt and seeds", [photos[1], *dci], ["", *["with DCI"] * len(dci)], is_step=False)
    outputs = client.run(together, timeout=1800)
    first, *_, last = pictures_titled(client, together, outputs, "Two halves")  # of four, one of which melts
    yield Row("Two subjects in one picture", [first, last])


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """One picture with a numbered, labelled line of tiles per row; pictures as high as a tile, as many as fit."""
    heights = [LABEL + TILE + (CAPTION if row.captions else 0) + GAP for row in rows]
    sheet = Image.new("RGB", (GAP + COLUMNS * (TILE + GAP), sum(heights) + GAP), PAPER)
    top, step = GAP, 0
    for row, height in zip(rows, heights, strict=True):
        step += row.is_step
        draw_row(sheet, top, row, str(step) if row.is_step else "")
        top += height
    return sheet


def draw_row(sheet: Image.Image, top: int, row: Row, number: str) -> None:
    """The number of the step in a disc, the label, the pictures, and what stands below each."""
    ink, middle = ImageDraw.Draw(sheet), top + LABEL // 2
    if number:
        ink.ellipse([GAP, middle - 22, GAP + 44, middle + 22], MARK)
        ink.text((GAP + 22, middle), number, PAPER, ImageFont.load_default(30), anchor="mm")
    ink.text((GAP + 58, middle), row.label, INK, ImageFont.load_default(32), anchor="lm")
    left = GAP
    for place, picture in enumerate(row.pictures):
        width = round(TILE * picture.width / picture.height)
        if left + width > sheet.width:
            return
        sheet.paste(picture.resize((width, TILE), Image.Resampling.LANCZOS), (left, top + LABEL))
        if place < len(row.captions):
            ink.text((left + width // 2, top + LABEL + TILE + CAPTION // 2), row.captions[place], INK,
                     ImageFont.load_default(20), anchor="mm")
        left += width + GAP


def main() -> int:
    """Run, and say where everything is."""
    logging.basicConfig(level=logging.INFO, format="demo: %(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped, too
    start = time.monotonic()
    log.info("starting ComfyUI; its log is %s", FOLDER / "server.log")
    rows = []
    with Server(FOLDER) as server:
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
