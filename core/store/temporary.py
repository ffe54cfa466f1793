"""Temporary files whose writer can be told from a dead one, so that only what a killed process left is removed.

A living writer holds a lock on its temporary file, which the system lets go of when the process dies; whoever can take
that lock has found a leftover. Where there are no such locks (Windows, some network drives), age alone tells.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCKED, ENDING = ".locked.tmp", ".tmp"
"""Ends of names: of files whose writers hold locks, and of all temporary files and folders."""
OLD = 3600.0
"""Seconds without a change after which a file that nobody can lock is a leftover."""


@contextlib.contextmanager
def temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An empty file beside `path`, locked by this process; it is gone at the end, unless it was renamed."""
    file, temporary = _open_locked(path)
    try:
        with file:
            yield file, temporary
    finally:  # an interrupt must not leave half a file behind either
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; what a living one writes stays."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f".*{ENDING}"):
            with contextlib.suppress(OSError):
                if path.is_dir():
                    _remove_old_folder(path)
                elif path.name.endswith(LOCKED) and fcntl is not None:
                    _remove_unlocked(path)
                elif _is_old(path):
                    path.unlink(missing_ok=True)


def _open_locked(path: Path) -> tuple[BinaryIO, Path]:
    while True:  # a sweep may find the file before it is locked
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{LOCKED}")
        # mkstemp's would be readable by nobody else; the caller closes it.
        file = open(temporary, "xb")  # noqa: SIM115
        try:
            with contextlib.suppress(OSError):
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX)
            if fcntl is None or os.fstat(file.fileno()).st_nlink:
                return file, temporary
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
        file.close()


def _remove_unlocked(path: Path) -> None:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:  # no locks here
            if not _is_old(path):
                return
        path.unlink(missing_ok=True)


def _remove_old_folder(path: Path) -> None:
    if _is_old(path):
        shutil.rmtree(path, ignore_errors=True)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > OLD
