"""File operations below a folder, counted, so that a process can die or a disk can fill up at any one of them.

For a forked child: what is replaced stays replaced until the child ends.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WITH_PATHS = ("replace", "rename", "link", "symlink", "unlink", "remove", "mkdir", "rmdir", "truncate", "utime")
MOVING = ("replace", "rename", "link")
"""Named by where they put the file."""
WITH_HANDLES = ("fsync", "write", "ftruncate")
Moment = Callable[[str], None]
"""Called with what is about to happen, or has just happened."""


class WrittenFile:
    """An open file whose writes are watched: before, after the first half, and after."""

    def __init__(self, file: Any, name: str, moment: Moment, room: Callable[[int], None]):
        self._file, self._name, self._moment, self._room = file, name, moment, room

    def write(self, data: Any) -> int:
        self._moment(f"before writing {self._name}")
        half = len(data) // 2
        self._room(half)
        self._file.write(data[:half])
        self._file.flush()
        self._moment(f"while writing {self._name}")
        self._room(len(data) - half)
        self._file.write(data[half:])
        self._moment(f"after writing {self._name}")
        return len(data)

    def __enter__(self) -> WrittenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def watch_files(folders: Sequence[Path], moment: Moment, room: Callable[[int], None] = lambda size: None) -> None:
    """Call `moment` before and after every operation that changes something below the folders, and `room` with the
    number of bytes that are about to be written."""
    inside = tuple(str(folder) for folder in folders)

    def is_inside(path: Any) -> bool:
        try:
            text = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.abspath(os.fspath(path))
        except (OSError, TypeError, ValueError):
            return False
        return os.fsdecode(text).startswith(inside)

    def watched(name: str) -> None:
        original = getattr(os, name)

        def operation(target: Any, *arguments: Any, **settings: Any) -> Any:
            if not is_inside(target):
                return original(target, *arguments, **settings)
            if name == "write":
                room(len(arguments[0]))
            what = f"{name} of {_short(arguments[0] if name in MOVING else target)}"
            moment(f"before {what}")
            value = original(target, *arguments, **settings)
            moment(f"after {what}")
            return value

        setattr(os, name, operation)

    for each in (*WITH_PATHS, *WITH_HANDLES):
        watched(each)
    _watch_opening(is_inside, moment, room)


def _watch_opening(is_inside: Callable[[Any], bool], moment: Moment, room: Callable[[int], None]) -> None:
    original, low_level = builtins.open, os.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
        if not set("wxa+") & set(mode) or isinstance(file, int) or not is_inside(file):
            return original(file, mode, *arguments, **settings)
        moment(f"before opening {_short(file)}")
        found = original(file, mode, *arguments, **settings)
        moment(f"after opening {_short(file)}")
        return WrittenFile(found, _short(file), moment, room)

    def opened_low(path: Any, flags: int, *arguments: Any, **settings: Any) -> int:
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or not is_inside(path):
            return low_level(path, flags, *arguments, **settings)
        moment(f"before opening {_short(path)}")
        handle = low_level(path, flags, *arguments, **settings)
        moment(f"after opening {_short(path)}")
        return handle

    builtins.open = opened
    io.open = opened
    os.open = opened_low


def _short(path: Any) -> str:
    if isinstance(path, int):
        path = os.readlink(f"/proc/self/fd/{path}")
    return "/".join(Path(os.fsdecode(path)).parts[-2:])


def disk_of(size: int) -> Callable[[int], None]:
    """A `room` that has so many bytes in all; deleted files give nothing back."""
    left = [size]

    def room(wanted: int) -> None:
        left[0] -= wanted
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return room
