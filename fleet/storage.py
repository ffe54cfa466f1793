"""Where photos come from and results go: a folder, a network drive or any fsspec URL; patient with drives that fail.

fsspec, because it comes with torch and knows every store that studios use (s3, gcs, az, sftp, ...).
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs

TRIES = 6
FIRST_PAUSE = 0.2
"""Seconds; doubled after each failure, 6 s in all."""

Result = TypeVar("Result")
log = logging.getLogger(__name__)


def is_url(place: str) -> bool:
    """Whether a place has a protocol, as in s3://bucket/folder. A Windows drive letter is none."""
    return re.match(r"^[a-z][a-z0-9+.-]+(::|://)", place) is not None


def resolve(place: str, folder: Path) -> str:
    """A place with relative paths made whole, against the plan's folder."""
    return place if is_url(place) else str((folder / Path(place).expanduser()).resolve())


def patiently(act: Callable[[], Result], what: str, tries: int = TRIES, pause: float = FIRST_PAUSE) -> Result:
    """Do it, and again after a failure of the store; what is not there stays a failure at once."""
    for number in range(1, tries + 1):
        try:
            return act()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
            raise
        except OSError as error:
            if number == tries:
                raise
            log.warning("%s: %s; try %d of %d", what, error, number + 1, tries)
            time.sleep(pause * 2 ** (number - 1))
    raise AssertionError("the last try returns or raises")


class Storage:
    """A folder somewhere.

    Args:
        place: an absolute path, or a URL of fsspec.
    """

    def __init__(self, place: str):
        self.place = place
        self._fs, self._root = url_to_fs(place)
        self._is_local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    @staticmethod
    def of_file(place: str) -> str:
        """The text of one file. Raises: OSError."""

        def read() -> str:
            with fsspec.open(place, "r", encoding="utf-8-sig") as file:
                return str(file.read())

        return patiently(read, place)

    def at(self, name: str) -> str:
        """The full path of an entry, as the file system writes it."""
        return f"{self._root.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """The files directly in the folder. Raises: OSError."""

        def listing() -> list[Any]:
            self._fs.invalidate_cache()
            return list(self._fs.ls(self._root, detail=True))

        return sorted(entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in patiently(listing, self.place)
                      if entry["type"] == "file")

    def tree(self) -> list[str]:
        """The files in the folder and below it, by relative names. Raises: OSError."""

        def listing() -> list[str]:
            self._fs.invalidate_cache()
            return [str(name) for name in self._fs.find(self._root)]

        root = self._root.rstrip("/") + "/"
        return sorted(name.removeprefix(root) for name in patiently(listing, self.place))

    def exists(self, name: str) -> bool:
        """Whether there is a file."""
        return bool(patiently(lambda: self._fs.exists(self.at(name)), name))

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises: OSError."""
        return bytes(patiently(lambda: self._fs.cat_file(self.at(name)), name))

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or not at all: beside itself and renamed on a drive, in one request on an object store."""

        def act() -> None:
            self._fs.makedirs(self.at(name).rsplit("/", 1)[0], exist_ok=True)
            if not self._is_local:
                self._fs.pipe_file(self.at(name), content)
                return
            partial = f"{self.at(name)}.{os.getpid()}.partial"
            Path(partial).write_bytes(content)
            os.replace(partial, self.at(name))

        patiently(act, name)

    def put(self, name: str, path: Path) -> None:
        """A file of this machine, streamed; whole or not at all."""

        def act() -> None:
            self._fs.makedirs(self.at(name).rsplit("/", 1)[0], exist_ok=True)
            target = f"{self.at(name)}.{os.getpid()}.partial" if self._is_local else self.at(name)
            self._fs.put_file(str(path), target)
            if self._is_local:
                os.replace(target, self.at(name))

        patiently(act, name)

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine."""
        content = self.read(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
