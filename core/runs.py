"""Where runs are kept: one folder per run, found again by the key of everything that changes its weights.

    <root>/<run name>[-2]/run.json                   the key, the label
                          state.safetensors          the newest whole training state
                          adapter-000100.safetensors a result at step 100
                          words-000100.safetensors   its learned words, if any
    <root>/.cache/<digest>.safetensors               encoded photos, shared by runs on the same data

The run name is only a label: another key under the same name gets a suffix, the same key is found under any name.
The number of steps is not in the key, so a run is loaded, resumed or extended as the asked steps need.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import InputError, require
from .files import canonical_json, make_folder, read_tensors, write_bytes, write_tensors

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
LONGEST_NAME = 100
STATE = "state.safetensors"
LABEL = "run.json"
CACHE = ".cache"


def check_run_name(name: str, field: str = "run_name") -> str:
    """The name without surrounding spaces.

    Raises:
        InputError: for a name that is not one plain folder name on every system.
    """
    plain = name.strip()
    stem = plain.split(".")[0].strip().lower()
    valid = bool(plain) and not FORBIDDEN.search(plain) and not plain.startswith(".") and not plain.endswith(".")
    short = len(plain.encode()) <= LONGEST_NAME
    require(valid and short and stem not in RESERVED, field, repr(name),
            f"one folder name of at most {LONGEST_NAME} bytes, without / \\ : * ? \" < > |, not starting or ending "
            "with a dot, not a reserved name such as CON", "Write a plain name, for example my_dog.")
    return plain


def run_key(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything that changes the weights."""
    return hashlib.sha256(canonical_json(fields).encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """One run's folder.

    Attributes:
        folder: where its files are.
        key: what it was made from.
    """

    folder: Path
    key: str

    @property
    def name(self) -> str:
        return self.folder.name

    def adapter_path(self, step: int) -> Path:
        """The result at a step."""
        return self.folder / f"adapter-{step:06d}.safetensors"

    def save_adapter(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
        """Keep a result that stock loaders read; returns its path.

        Raises:
            StorageError: when the disk is full; nothing that was saved before is lost.
        """
        path = self.adapter_path(step)
        write_tensors(path, tensors, metadata)
        return path

    def load_adapter(self, step: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The result at exactly this step, None where it is missing or damaged."""
        return _read_or_none(self.adapter_path(step))

    def save_words(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Keep the learned words of a result; before the result itself, so that it is never without them.

        Raises:
            StorageError: when the disk is full; nothing that was saved before is lost.
        """
        write_tensors(self.folder / f"words-{step:06d}.safetensors", tensors, metadata)

    def load_words(self, step: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The learned words of exactly this step, None where they are missing or damaged."""
        return _read_or_none(self.folder / f"words-{step:06d}.safetensors")

    def save_state(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Replace the training state.

        Raises:
            StorageError: when the disk is full; the last good state stays.
        """
        write_tensors(self.folder / STATE, tensors, {"step": step, "key": self.key, "state": dict(metadata)})

    def load_state(self) -> SavedState | None:
        """The newest whole training state; None where there is none, or where it is damaged or of another run."""
        found = _read_or_none(self.folder / STATE)
        if found is None or found[1].get("key") != self.key:
            return None
        tensors, metadata = found
        return SavedState(step=int(metadata["step"]), tensors=tensors, metadata=metadata["state"])


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A training state as `Trainer.state` gave it, and the step it belongs to."""

    step: int
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def _read_or_none(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    if not path.exists():
        return None
    try:
        return read_tensors(path)
    except InputError:  # damaged from outside: writing is atomic, so training it again is the way out
        return None


def find_run(root: Path, name: str, key: str) -> Run | None:
    """The run of this key, under this name if possible and under any other name otherwise."""
    if not root.is_dir():
        return None
    others = sorted(path for path in root.iterdir() if path.is_dir())
    return next((Run(folder, key) for folder in [*_taken(root, name), *others] if _key_of(folder) == key), None)


def open_run(root: Path, name: str, key: str) -> Run:
    """The run of this key, or a new one under the name (with the suffix -2, -3, ... where the name is taken).

    Raises:
        InputError: for a bad name.
        StorageError: when the folder cannot be made.
    """
    name = check_run_name(name)
    found = find_run(root, name, key)
    if found is not None:
        _remove_leftovers(found.folder)
        return found
    folder = next(folder for folder in _candidates(root, name) if _is_free(folder))
    make_folder(folder)
    write_bytes(folder / LABEL, canonical_json({"key": key, "label": name, "version": 1}).encode())
    return Run(folder, key)


def _candidates(root: Path, name: str) -> Iterator[Path]:
    yield root / name
    number = 2
    while True:
        yield root / f"{name}-{number}"
        number += 1


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _remove_leftovers(folder: Path) -> None:
    """Temporary files that a killed process could not remove."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _taken(root: Path, name: str) -> Iterator[Path]:
    """The existing folders that the name has given so far."""
    for folder in _candidates(root, name):
        if not folder.is_dir():
            return
        yield folder


def _key_of(folder: Path) -> str | None:
    try:
        label = json.loads((folder / LABEL).read_bytes())
    except (OSError, ValueError):
        return None
    return label.get("key") if isinstance(label, dict) else None


def cache_path(root: Path, digest: str) -> Path:
    """Where encoded data of this digest is kept, in a folder that no run name can have."""
    folder = root / CACHE
    make_folder(folder)
    return folder / f"{digest}.safetensors"


def read_cache(root: Path, digest: str) -> dict[str, Tensor] | None:
    """What `write_cache` kept; None where there is nothing whole."""
    found = _read_or_none(root / CACHE / f"{digest}.safetensors")
    return None if found is None else found[0]


def write_cache(root: Path, digest: str, tensors: Mapping[str, Tensor]) -> None:
    """Keep encoded data for the next run.

    Raises:
        StorageError: when the disk is full.
    """
    write_tensors(cache_path(root, digest), tensors, {"digest": digest})
