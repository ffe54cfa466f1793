"""A drive that fails now and then, for `fleet.py storage`; a file of its own, so that other processes can import it."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

FAILURES = Path(__file__).resolve().parents[1] / ".fleet" / "failures.txt"
SHARE = 0.2
"""Of calls that fail."""


class FailingFileSystem(LocalFileSystem):
    """A drive whose calls fail by chance, with a line in a file for each; a write that fails leaves half a file."""

    protocol = "failing"
    cachable = False

    def __init__(self, **options: Any):
        super().__init__(auto_mkdir=True, **options)
        self._chance = random.Random(os.getpid())

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("failing://")))

    def _may_fail(self, what: str) -> None:
        if self._chance.random() < SHARE:
            with FAILURES.open("a") as file:
                file.write(f"{what}\n")
            raise OSError(errno.EIO, f"the drive failed at {what}")

    def find(self, path: str, *given: Any, **options: Any) -> Any:
        """Fails by chance."""
        self._may_fail("find")
        return super().find(path, *given, **options)

    def exists(self, path: str, **options: Any) -> bool:
        """Fails by chance."""
        self._may_fail("exists")
        return bool(super().exists(path, **options))

    def cat_file(self, path: str, *given: Any, **options: Any) -> bytes:
        """Fails by chance."""
        self._may_fail("cat_file")
        return bytes(super().cat_file(path, *given, **options))

    def pipe_file(self, path: str, value: bytes, *given: Any, **options: Any) -> None:
        """Fails by chance, half-way."""
        super().pipe_file(path, value[: len(value) // 2], *given, **options)
        self._may_fail("pipe_file")
        super().pipe_file(path, value, *given, **options)

    def put_file(self, lpath: str, rpath: str, *given: Any, **options: Any) -> None:
        """Fails by chance."""
        self._may_fail("put_file")
        super().put_file(lpath, rpath, *given, **options)
