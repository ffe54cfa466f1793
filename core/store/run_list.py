"""All runs of a folder, for people: what each is, and how it is renamed and deleted without harm to one that trains."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, require
from .files import StorageError, read_metadata
from .metadata import ADAPTER, STATE, check
from .runs import Run, check_run_name, lock_path, only_here, read_label, read_state_label
from .temporary import ENDING

RESULT = re.compile(r"adapter-(\d+)\.safetensors")
KEY = re.compile(r"[0-9a-f]{64}")
"""Every key that `runs.run_key` makes; a stranger's label may say anything, and names a lock."""


def run_id(run: Run) -> str:
    """Names a run in a list: 32 hexadecimal digits of its key and its folder, so that a copied folder has its own."""
    return hashlib.blake2b(f"{run.key}/{run.name}".encode(errors="replace"), digest_size=16).hexdigest()


def list_runs(root: Path) -> list[Run]:
    """The runs in a folder, by name; whatever else lies there is passed over."""
    with contextlib.suppress(OSError):
        found = (run_of(folder) for folder in sorted(root.iterdir()) if not folder.name.startswith("."))
        return [run for run in found if run is not None]
    return []


def run_of(folder: Path) -> Run | None:
    """The run of a folder; None for a folder that is none, or one of a newer version."""
    for read in (read_label, read_state_label):
        with contextlib.suppress(InputError):
            key = read(folder).get("key")
            return Run(folder, key) if isinstance(key, str) and KEY.fullmatch(key) else None
    return None


def find_by_id(root: Path, identity: str) -> Run:
    """The run of an id.

    Raises:
        InputError: there is none.
    """
    found = next((run for run in list_runs(root) if run_id(run) == identity), None)
    if found is None:
        raise InputError("run", identity, "a run that is there", "Load the list again: it was renamed or deleted.")
    return found


def result_steps(folder: Path) -> list[int]:
    """The steps whose adapter files lie in a run's folder, in order; their content is not looked at."""
    names = (RESULT.fullmatch(path.name) for path in folder.glob("adapter-*"))
    return sorted(int(name[1]) for name in names if name)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is known of a run without reading a tensor.

    Attributes:
        steps: of its results.
        trained: steps so far.
        size: bytes of all its files.
        modified: seconds since 1970.
        metadata: what its newest result says of itself; empty where no result says anything.
    """

    steps: tuple[int, ...]
    trained: int
    size: int
    modified: float
    metadata: dict[str, Any]


def summarise(run: Run) -> Summary:
    """A run's summary; files that vanish meanwhile or cannot be read are left out."""
    steps, sizes, times = result_steps(run.folder), [0], [0.0]
    for path in run.folder.glob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            sizes.append(status.st_size)
            times.append(status.st_mtime)
    metadata: dict[str, Any] = next(filter(None, (_metadata(run.adapter_path(step)) for step in reversed(steps))), {})
    trained = max([*steps, history(run)[0]])
    return Summary(steps=tuple(steps), trained=trained, size=sum(sizes), modified=max(times), metadata=metadata)


def history(run: Run) -> tuple[int, list[float], list[dict[str, Any]]]:
    """Step, loss of every step and validations of the state, without its tensors; nothing where it has none."""
    with contextlib.suppress(InputError, OSError):
        metadata = read_metadata(run.state_path)
        check(run.state_path, metadata, STATE)
        return metadata["step"], metadata["state"]["losses"], metadata["state"].get("figures", [])
    return 0, [], []


def _metadata(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(InputError, OSError):
        metadata = read_metadata(path)
        check(path, metadata, ADAPTER)
        return metadata
    return None


def is_training(root: Path, run: Run) -> bool:
    """Whether a process has the run at the moment."""
    if not lock_path(root, run.key).exists():
        return False
    try:
        with _unused(root, run):
            return False
    except InputError:
        return True


def rename_run(root: Path, run: Run, name: str) -> Run:
    """The run under another name.

    Raises:
        InputError: a bad or a taken name, or a run that trains; nothing was changed.
        StorageError: the folder cannot be renamed.
    """
    folder = root / check_run_name(name, "name")
    with _unused(root, run):
        is_free = not folder.exists() or run.folder.exists() and folder.samefile(run.folder)  # only the case differs
        require(is_free, "name", repr(folder.name), "a name that no other run has", "Choose another one.")
        _move(run.folder, folder)
    return Run(folder, run.key)


def delete_run(root: Path, run: Run) -> None:
    """Delete a run's folder: it is gone in one step, and what a crash leaves of it is swept up later.

    Raises:
        InputError: a run that trains, or whose folder is a link; nothing was changed.
        StorageError: the folder cannot be moved away.
    """
    require(not run.folder.is_symlink(), "run", f"{run.name!r}, whose folder is a link", "a folder of its own",
            "Delete by hand what it leads to.")
    gone = root / f".{uuid.uuid4().hex}{ENDING}"
    with _unused(root, run):
        _move(run.folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _move(folder: Path, to: Path) -> None:
    try:
        folder.rename(to)
    except OSError as reason:
        raise StorageError(folder, reason) from reason


@contextmanager
def _unused(root: Path, run: Run) -> Iterator[None]:
    """Within the context nobody trains the run.

    Raises:
        InputError: somebody does.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_here(root, run.name, run.key, seconds=0))
        except InputError as reason:
            raise InputError("run", f"{run.name!r}, which trains at the moment", "a run that has ended",
                             "Wait for its end, or cancel it.") from reason
        yield
