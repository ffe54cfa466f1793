"""What a cell of the bench is called, where its files lie, and whether the figures there are of today's settings.

Figures (.json), pictures (.npz) and sheet (.jpg) of a cell have one name. A cell whose settings, prompts, sampling or
networks have changed since counts as not made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ...core.store.files import write_bytes
from ...pocket.image_text import CHECKPOINT, IMAGE_TEXT_FILE

Key = tuple[str, int, int]
"""Method or setting, subject, seed."""
Made = Callable[[str], str]
"""What a method's or a setting's cells are made from today, by its name: `made_from` of it."""


def cell_name(name: str, number: int, seed: int) -> str:
    """A method or a setting, the subject's number, the seed."""
    return f"{name}-{number}-{seed}"


def cell_path(folder: Path, name: str, number: int, seed: int, ending: str = ".json") -> Path:
    """The file of a cell."""
    return folder / (cell_name(name, number, seed) + ending)


def made_from(*chosen: object) -> str:
    """A digest of all that a cell's pictures depend on: what was chosen, by its repr, and the pocket's networks."""
    networks = digest_of_files(CHECKPOINT, IMAGE_TEXT_FILE)
    return hashlib.sha256("\n".join([*map(repr, chosen), networks]).encode()).hexdigest()[:16]


@cache
def digest_of_files(*paths: Path) -> str:
    """Of the files' contents, one after the other."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


def read_cell(path: Path, made: str) -> dict[str, Any] | None:
    """A cell's figures; None where it was not made, or from something else than today's."""
    if not path.is_file():
        return None
    cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return cell if cell.get("made_from") == made else None


def write_cell(path: Path, cell: Mapping[str, Any]) -> None:
    """A cell's figures, whole or not at all."""
    write_bytes(path, (json.dumps(cell, indent=1) + "\n").encode())
