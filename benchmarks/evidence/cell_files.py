"""What a cell of the bench is called, and where its figures (.json), its pictures (.npz) and its sheet (.jpg) lie."""

from __future__ import annotations

from pathlib import Path


def cell_name(name: str, number: int, seed: int) -> str:
    """A method or a setting, the subject's number, the seed."""
    return f"{name}-{number}-{seed}"


def cell_path(folder: Path, name: str, number: int, seed: int, ending: str = ".json") -> Path:
    """The file of a cell."""
    return folder / (cell_name(name, number, seed) + ending)
