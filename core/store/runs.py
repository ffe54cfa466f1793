"""Where runs are kept: one folder per run, found again by the key of everything that changes its weights.

    <root>/<run name>[-2]/run.json                   the key, the label
                          state.safetensors          the newest whole training state
                          adapter-000100.safetensors a result at step 100
                          words-000100.safetensors   its learned vectors, if any
                          out-of-memory-<way>        a way of using the memory that was not enough, and the free bytes
    <root>/.cache/<digest>.safetensors               encoded photos, shared by runs on the same data
    <root>/.locks/<key>.lock                         locked by the process that trains the run

The run name is only a label: another key under the same name gets a suffix, the same key is found under any name.
The number of steps is not in the key, so a run is loaded, resumed or extended as the asked steps need.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..errors import InputError, require
from ..wording import clean_text
from .files import (
    StorageError,
    canonical_json,
    make_folder,
    make_new_folder,
    read_metadata,
    read_tensors,
    write_tensors,
)
from .metadata import ADAPTER, CACHE, RUN, STATE, VECTORS, VERSION, NewerVersion, Rules, check, parse
from .temporary import ENDING, sweep

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³")}
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
LONGEST_NAME = 100
STATE_FILE = "state.safetensors"
STATE_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
"""Of weights, averages, optimisers' moments (8-bit ones are uint8) and counts."""
LABEL = "run.json"
OUT_OF_MEMORY = "out-of-memory-"
CACHE_FOLDER, LOCKS = ".cache", ".locks"
WAIT = 10.0
"""Seconds to wait for another process that may only be loading the run."""


def check_run_name(name: str, field: str = "run_name") -> str:
    """The name without surrounding spaces.

    Raises:
        InputError: for a name that is not one plain folder name on every system.
    """
    require(isinstance(name, str), field, repr(name), "a text", "Write a plain name, for example my_dog.")
    plain = (name if FORBIDDEN.search(name) else clean_text(name, field)).strip()
    stem = plain.split(".")[0].strip().lower()
    valid = bool(plain) and not FORBIDDEN.search(plain) and not plain.startswith(".") and not plain.endswith(".")
    short = len(plain.encode(errors="replace")) <= LONGEST_NAME
    require(valid and short and stem not in RESERVED, field, _shown(name),
            f"one folder name of at most {LONGEST_NAME} bytes, without / \\ : * ? \" < > | or half characters, not "
            "starting or ending with a dot, not a reserved name such as CON", "Write a plain name, for example my_dog.")
    return plain


def _shown(name: str) -> str:
    text = name.encode(errors="backslashreplace").decode()
    return repr(text if len(text) <= 2 * LONGEST_NAME else f"{text[:2 * LONGEST_NAME]}...")


def run_key(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything that changes the weights."""
    return hashlib.sha256(canonical_json(fields).encode()).hexdigest()


def lock_path(root: Path, key: str) -> Path:
    """The file that is locked while a process has the run of this key."""
    return root / LOCKS / f"{key}.lock"


@contextmanager
def only_here(root: Path, name: str, key: str, seconds: float = WAIT) -> Iterator[None]:
    """Within the context no other process has the run of this key; where the system knows no locks, nothing happens.

    Raises:
        InputError: another process still has it after so many seconds.
    """
    path = lock_path(root, key)
    lock = FileLock(path, timeout=seconds)
    try:
        make_folder(path.parent)
        lock.acquire()
    except Timeout as reason:
        raise InputError("run_name", f"{name!r}, which another ComfyUI trains at the moment", "a run of its own",
                         "Queue the same graph again when that one has ended: it loads the result. Another seed or "
                         "another setting makes a run of its own, which can train beside it.") from reason
    except (OSError, NotImplementedError, StorageError) as reason:
        logging.warning("%s cannot be locked (%s): let no other ComfyUI train the same graph.", path, reason)
    try:
        yield
    finally:
        lock.release()


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

    def vectors_path(self, step: int) -> Path:
        """The learned vectors of the result at a step."""
        return self.folder / f"words-{step:06d}.safetensors"

    @property
    def state_path(self) -> Path:
        """The newest whole training state."""
        return self.folder / STATE_FILE

    def note_out_of_memory(self, way: str, free: int) -> None:
        """Remember that memory was not enough in this way of using it, with so many bytes free at the start. A disk
        that cannot take it costs another try, and nothing else."""
        with suppress(OSError):
            (self.folder / f"{OUT_OF_MEMORY}{way}").write_text(str(free), encoding="utf-8")

    def ways_out_of_memory(self, free: int) -> set[str]:
        """The ways in which memory was not enough, when no less was free than now."""
        return {path.name.removeprefix(OUT_OF_MEMORY) for path in self.folder.glob(f"{OUT_OF_MEMORY}*")
                if free <= _number_in(path)}

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
        return _read_or_none(self.adapter_path(step), ADAPTER)

    def save_vectors(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Keep the learned vectors of a result; before the result itself, so that it is never without them.

        Raises:
            StorageError: when the disk is full; nothing that was saved before is lost.
        """
        write_tensors(self.vectors_path(step), tensors, {"version": VERSION, **metadata})

    def load_vectors(self, step: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The learned vectors of exactly this step, None where they are missing or damaged."""
        return _read_or_none(self.vectors_path(step), VECTORS)

    def remove_result(self, step: int) -> None:
        """Remove the adapter and the vectors of a step, as far as that can be done."""
        for path in (self.adapter_path(step), self.vectors_path(step)):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def results(self) -> list[int]:
        """The steps of the whole results, in order."""
        names = (re.fullmatch(r"adapter-(\d+)\.safetensors", path.name) for path in self.folder.glob("adapter-*"))
        steps = sorted(int(name[1]) for name in names if name)
        return [step for step in steps if self.load_adapter(step) is not None]

    def save_state(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Replace the training state.

        Raises:
            StorageError: when the disk is full; the last good state stays.
        """
        write_tensors(self.state_path, tensors,
                      {"step": step, "key": self.key, "state": dict(metadata), "version": VERSION})

    def load_state(self) -> SavedState | None:
        """The newest whole training state; None where there is none.

        Raises:
            InputError: it is damaged, of another run or of a newer version; says which file to remove.
        """
        if not self.state_path.exists():
            return None
        fix = f"Remove that file to train this run again from the start: {self.state_path}"
        try:
            tensors, metadata = read_tensors(self.state_path)
        except NewerVersion:
            raise
        except InputError as reason:
            raise InputError(reason.name, reason.got, "a whole training state", fix) from reason
        check(self.state_path, metadata, STATE, fix)
        state, step = metadata["state"], metadata["step"]
        require(metadata["key"] == self.key, "file", f"{self.state_path}: the state of another run",
                f"one of the run {self.name}", fix)
        require(state["step"] == step == len(state["losses"]), "file",
                f"{self.state_path}: step {step} and {len(state['losses'])} losses", "as many losses as steps", fix)
        odd = next((name for name, tensor in tensors.items() if tensor.dtype not in STATE_DTYPES), None)
        require(odd is None, "file", f"{self.state_path}: {odd} of a type that no state has", "float and whole numbers",
                fix)
        return SavedState(step=step, tensors=tensors, metadata=state)


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A training state as `Trainer.state` gave it, and the step it belongs to."""

    step: int
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def _read_or_none(path: Path, rules: Rules) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path)
        check(path, metadata, rules)
    except InputError as reason:  # damaged from outside: writing is atomic, so making it again is the way out
        logging.warning("%s It is made again.", reason)
        return None
    return tensors, metadata


def find_run(root: Path, name: str, key: str) -> Run | None:
    """The run of this key, under this name if possible and under any other name otherwise.

    Raises:
        InputError: a newer version of this package made it.
    """
    if not root.is_dir():
        return None
    others = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return next((Run(folder, key) for folder in [*_taken(root, name), *others] if _is_of(folder, key)), None)


def open_run(root: Path, name: str, key: str) -> Run:
    """The run of this key, or a new one under the name (with the suffix -2, -3, ... where the name is taken).

    Its folder appears with its label inside, in one step: two processes never get one folder for two runs.

    Raises:
        InputError: for a bad name.
        StorageError: when the folder cannot be made.
    """
    name = check_run_name(name)
    for folder in (root, root / CACHE_FOLDER):
        sweep(folder)
    found = find_run(root, name, key)
    if found is not None:
        sweep(found.folder)
        return found
    label, draft = canonical_json({"key": key, "label": name, "version": VERSION}).encode(), f".{key}{ENDING}"
    for folder in _candidates(root, name):
        sweep(folder)
        if make_new_folder(folder, {LABEL: label}, draft) or _is_of(folder, key):
            return Run(folder, key)
    raise AssertionError("the candidates never end")


def reopened(run: Run) -> Run:
    """The same run, its folder made again where it has vanished.

    Raises:
        StorageError: when the folder cannot be made.
    """
    return run if _is_of(run.folder, run.key) else open_run(run.folder.parent, run.name, run.key)


def _candidates(root: Path, name: str) -> Iterator[Path]:
    yield root / name
    number = 2
    while True:
        yield root / f"{name}-{number}"
        number += 1


def _taken(root: Path, name: str) -> Iterator[Path]:
    """The existing folders that the name has given so far."""
    for folder in _candidates(root, name):
        if not folder.is_dir():
            return
        yield folder


def _is_of(folder: Path, key: str) -> bool:
    """Whether a run's label has this key; or its state, where the label is lost.

    Raises:
        InputError: it has, and is of a newer version.
    """
    for read in (read_label, read_state_label):
        try:
            return bool(read(folder).get("key") == key)
        except NewerVersion as newer:
            if newer.value.get("key") == key:
                raise
            return False
        except InputError:
            continue
    return False


def read_label(folder: Path) -> dict[str, Any]:
    """What a run's label says.

    Raises:
        InputError: the folder has none that can be read.
    """
    path = folder / LABEL
    try:
        label = parse(path, path.read_bytes())
    except OSError as reason:
        raise InputError("file", f"{path}: {reason.strerror}", "a run's label", "Use another run name.") from reason
    check(path, label, RUN)
    return label


def read_state_label(folder: Path) -> dict[str, Any]:
    """The same from a run's state, where the label is lost.

    Raises:
        InputError: as `read_label`.
    """
    return read_metadata(folder / STATE_FILE)


def cache_path(root: Path, digest: str) -> Path:
    """Where encoded data of this digest is kept, in a folder that no run name can have."""
    folder = root / CACHE_FOLDER
    make_folder(folder)
    return folder / f"{digest}.safetensors"


def read_cache(root: Path, digest: str) -> dict[str, Tensor] | None:
    """What `write_cache` kept; None where there is nothing whole."""
    found = _read_or_none(root / CACHE_FOLDER / f"{digest}.safetensors", CACHE)
    return found[0] if found is not None and found[1]["digest"] == digest else None


def write_cache(root: Path, digest: str, tensors: Mapping[str, Tensor]) -> None:
    """Keep encoded data for the next run; a disk that cannot take it costs time, and nothing else."""
    try:
        write_tensors(cache_path(root, digest), tensors, {"digest": digest})
    except StorageError as reason:
        logging.warning("What was encoded is not kept for the next run: %s", reason)
