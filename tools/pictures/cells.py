"""One workflow on one subject is a cell: it runs once, its pictures are kept, and a killed run goes on at the next."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ..install_comfyui import ROOT
from ..thumbnails import keep_pictures, kept_pictures
from ..write_workflows import saved_pictures
from .graphs import Graph, for_subject, quickly, with_the_class_alone, workflow
from .measures import WITHOUT_SUBJECT
from .subjects import Subject, write_photos

log = logging.getLogger("pictures")


class Cell(NamedTuple):
    """A workflow and a subject."""

    workflow: str
    who: Subject

    @property
    def name(self) -> str:
        return self.workflow if self.workflow in WITHOUT_SUBJECT else f"{self.workflow} {self.who.number}"


def graph_of(cell: Cell, photos: dict[str, str], *, is_quick: bool) -> Graph:
    """The graph that the cell runs."""
    _, graph = workflow(cell.workflow)
    if cell.workflow not in WITHOUT_SUBJECT:
        graph = for_subject(graph, cell.who, photos)
    if cell.workflow == "01":
        graph = with_the_class_alone(graph, cell.who.noun)
    return quickly(graph) if is_quick else graph


def checkpoint_digest() -> str:
    """Which pocket files are installed: their names and contents."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "pocket" / "checkpoints").glob("*.safetensors")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:16]


def key_of(graph: Graph, photos: list[Path], checkpoint: str) -> str:
    """What a cell's pictures depend on."""
    digest = hashlib.sha256(json.dumps(graph, sort_keys=True).encode() + checkpoint.encode())
    for path in sorted(photos):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


class Cells:
    """The kept cells of a folder.

    Args:
        folder: where pictures and keys lie.
        inputs: ComfyUI's input folder, for photos.
    """

    def __init__(self, folder: Path, inputs: Path, *, is_quick: bool = False, checkpoint: str | None = None) -> None:
        self.folder, self.inputs, self.is_quick = folder, inputs, is_quick
        self.checkpoint = checkpoint or checkpoint_digest()

    def fill(self, client: Any, cell: Cell) -> Graph:
        """Runs a cell where its pictures are not kept yet; the graph that belongs to them."""
        photos = write_photos(cell.who, self.inputs)
        graph = graph_of(cell, photos, is_quick=self.is_quick)
        key, note = key_of(graph, [self.inputs / name for name in photos.values()], self.checkpoint), self.note(cell)
        if note.is_file() and json.loads(note.read_text()).get("key") == key:
            return graph
        started, outputs = time.monotonic(), client.run(graph, timeout=7200)
        pictures = saved_pictures(client, graph, outputs)
        keep_pictures(cell.name, pictures, self.folder)
        seconds = round(time.monotonic() - started, 1)
        note.write_text(json.dumps({"key": key, "seconds": seconds, "titles": list(pictures)}) + "\n")
        log.info("%s: %s pictures, %.0f s", cell.name, sum(map(len, pictures.values())), seconds)
        return graph

    def note(self, cell: Cell) -> Path:
        """The file that is written when a cell's pictures are whole."""
        return self.folder / f"{cell.name}.json"

    def pictures(self, cell: Cell) -> dict[str, list[Image.Image]]:
        """A cell's kept pictures by title; none where it was not run."""
        if not self.note(cell).is_file():
            return {}
        return {title: kept_pictures(cell.name, title, self.folder)
                for title in json.loads(self.note(cell).read_text())["titles"]}
