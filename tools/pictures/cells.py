"""One workflow on one subject is a cell: it runs once, its pictures are kept, and a killed run goes on at the next."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ...core.store.files import write_bytes
from ..install_comfyui import ROOT
from ..thumbnails import keep_pictures, kept_pictures
from ..write_workflows import saved_pictures
from .graphs import (
    Graph,
    for_subject,
    nodes_of,
    quickly,
    with_pictures,
    with_plain_sampling,
    with_the_class_alone,
    without_labels,
    workflow,
)
from .measures import LOADED, WITHOUT_SUBJECT
from .subjects import Subject, write_photos

log = logging.getLogger("pictures")
PHOTOS = ROOT / "workflows" / "photos"
PAIRS = 16
"""Pictures of two individuals: they are asked of one pair alone, so more of them."""


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
    if cell.workflow == "13":
        graph = with_plain_sampling(with_pictures(graph, PAIRS))
    if cell.workflow == "01":
        graph = with_the_class_alone(graph, cell.who.noun)
    graph = without_labels(graph)
    return quickly(graph) if is_quick else graph


def checkpoint_digest() -> str:
    """Which pocket files are installed: names and contents of checkpoint, upscaler and image-text encoder."""
    digest = hashlib.sha256()
    for path in sorted(path for name in ("checkpoints", "image_text")
                       for path in (ROOT / "pocket" / name).glob("*.safetensors")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:16]


class Cells:
    """The kept cells of a folder.

    Args:
        folder: where pictures and keys lie.
        inputs: ComfyUI's input folder, for photos.
    """

    def __init__(self, folder: Path, inputs: Path, *, is_quick: bool = False, checkpoint: str | None = None) -> None:
        self.folder, self.inputs, self.is_quick = folder, inputs, is_quick
        self.checkpoint = checkpoint or checkpoint_digest()
        self._keys: dict[Cell, str] = {}
        self._written: dict[Subject, dict[str, str]] = {}

    def fill(self, client: Any, cell: Cell) -> None:
        """Runs a cell where its pictures are not kept, or are those of another graph, model or photo."""
        if self.is_current(cell):
            return
        graph, key = self.graph(cell), self.key(cell)
        self.note(cell).unlink(missing_ok=True)  # until its pictures are whole
        self._forget_saved(graph)
        started, outputs = time.monotonic(), client.run(graph, timeout=7200)
        pictures = saved_pictures(client, graph, outputs)
        keep_pictures(cell.name, pictures, self.folder)
        seconds = round(time.monotonic() - started, 1)
        written = {"key": key, "seconds": seconds, "titles": list(pictures)}
        write_bytes(self.note(cell), (json.dumps(written) + "\n").encode())
        log.info("%s: %s pictures, %.0f s", cell.name, sum(map(len, pictures.values())), seconds)

    def graph(self, cell: Cell) -> Graph:
        """The graph that a cell runs; writes its photos."""
        return graph_of(cell, self._photos(cell.who), is_quick=self.is_quick)

    def key(self, cell: Cell) -> str:
        """What a cell's pictures depend on: graph, photos, the pocket's files, and the cell whose result it loads."""
        if cell not in self._keys:
            digest = hashlib.sha256(json.dumps(self.graph(cell), sort_keys=True).encode() + self.checkpoint.encode())
            own = {self.inputs / name for name in self._photos(cell.who).values()}
            shipped = {PHOTOS / str(node["inputs"]["image"]) for node in self.graph(cell).values()
                       if node["class_type"] == "LoadImage"}
            for path in sorted(own | {path for path in shipped if path.is_file()}):
                digest.update(path.read_bytes())
            if cell.workflow in LOADED:
                digest.update(self.key(Cell(LOADED[cell.workflow], cell.who)).encode())
            self._keys[cell] = digest.hexdigest()[:24]
        return self._keys[cell]

    def is_current(self, cell: Cell) -> bool:
        """Whether the pictures that are kept are those of today's graph, photos and model."""
        note = self.note(cell)
        return note.is_file() and json.loads(note.read_text()).get("key") == self.key(cell)

    def _photos(self, who: Subject) -> dict[str, str]:
        """A subject's photos, written once a run."""
        if who not in self._written:
            self._written[who] = write_photos(who, self.inputs)
        return self._written[who]

    def _forget_saved(self, graph: Graph) -> None:
        """Removes what an earlier run of the cell saved: files are not replaced, and others would load the old one."""
        for node in nodes_of(graph, "PersonalizeSave"):
            name = Path(graph[node]["inputs"]["name"])
            for folder in ("loras", "embeddings"):
                for path in (self.inputs.parent / "models" / folder / name.parent).glob(f"{name.name}.*"):
                    path.unlink()

    def note(self, cell: Cell) -> Path:
        """The file that is written when a cell's pictures are whole."""
        return self.folder / f"{cell.name}.json"

    def pictures(self, cell: Cell) -> dict[str, list[Image.Image]]:
        """A cell's kept pictures by title; none where it was not run as it stands today."""
        if not self.is_current(cell):
            return {}
        return {title: kept_pictures(cell.name, title, self.folder)
                for title in json.loads(self.note(cell).read_text())["titles"]}
