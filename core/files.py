"""Safetensors files that are either whole or absent, and say in one canonical JSON key what they are.

Equal content gives equal bytes: safetensors orders the tensors, and the metadata is one key whose JSON is sorted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import InputError

METADATA_KEY = "personalize"
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
OUT_OF_SPACE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class StorageError(RuntimeError):
    """A file could not be written; what lay in its place before is still there.

    Args:
        path: the file.
        reason: what the operating system said.
    """

    def __init__(self, path: Path, reason: OSError):
        self.path, self.reason = path, reason
        fix = "Free some space" if reason.errno in OUT_OF_SPACE else "Check the folder's permissions"
        super().__init__(f"{path.name}: got {reason.strerror or reason} while saving, expected a writable folder with "
                         f"enough space at {path.parent}. {fix}, then queue the same graph again: it goes on from the "
                         "last good state.")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step: a reader sees the old file or the new one, also after a crash.

    Raises:
        StorageError: when the disk is full or not writable; the old file stays, no temporary file does.
    """
    try:
        _replace(path, data)
    except OSError as reason:
        raise StorageError(path, reason) from reason


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        StorageError: when the disk is full or not writable, or a file is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise StorageError(folder, reason) from reason


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # mkstemp's would be readable by nobody else
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # an interrupt must not leave half a file behind either
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can: not on Windows, nor on every network drive.
    The file is in its place already, so nothing is lost where it cannot."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def tensors_to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """The whole safetensors file; `metadata` becomes its one `personalize` key."""
    plain = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    return save(plain, metadata={METADATA_KEY: canonical_json(metadata)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file in one step.

    Raises:
        StorageError: as `write_bytes`.
    """
    write_bytes(path, tensors_to_bytes(tensors, metadata))


def read_metadata(path: Path) -> dict[str, Any]:
    """The file's `personalize` metadata, without reading its tensors.

    Raises:
        InputError: for a missing, pickled, corrupt or foreign file.
    """
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError) as reason:
        raise _unreadable(path, f"a corrupt file ({reason})") from reason
    if text is None:
        raise InputError("file", f"{path.name}, which another program made", "a file that SavePersonalization wrote",
                         "Load files of other programs with the stock LoRA loader.")
    return _parse(path, text)


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except ValueError as reason:
        raise _unreadable(path, "a file with broken metadata") from reason
    if not isinstance(metadata, dict):
        raise _unreadable(path, "a file with broken metadata")
    return metadata


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the `personalize` metadata of a file; copies, for Windows replaces no file that is still mapped.

    Raises:
        InputError: as `read_metadata`.
    """
    metadata = read_metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, metadata
    except (SafetensorError, OSError) as reason:
        raise _unreadable(path, f"a corrupt file ({reason})") from reason


def _refuse_pickle(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as reason:
        raise _unreadable(path, reason.strerror or str(reason)) from reason
    if start.startswith(PICKLE_STARTS):
        raise InputError("file", f"{path.name}, a pickled file that could run code", "a safetensors file",
                         "Save it again with SavePersonalization.")


def _unreadable(path: Path, got: str) -> InputError:
    return InputError("file", f"{path.name}: {got}", "a whole safetensors file that SavePersonalization wrote",
                      "Choose another file, or save it again.")
