"""Safetensors files that are either whole or absent, and say in one canonical JSON key what they are.

Equal content gives equal bytes: safetensors orders the tensors, and the metadata is one key whose JSON is sorted. A
checksum of everything else in the file stands beside it; files without one are of before it was written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ..errors import InputError
from .metadata import CHOOSE, parse
from .temporary import temporary_file

METADATA_KEY, CHECKSUM = "personalize", "checksum"
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError)
"""What safetensors raises for files that it did not write."""
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
    """JSON with sorted keys and no spaces: equal values give equal text. NaN is refused.

    Raises:
        InputError: for half of a character (a lone surrogate), which no file can hold.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError as reason:
        around = ascii(text[max(0, reason.start - 20):reason.end])
        raise InputError("text", f"half of a character in {around}", "whole characters",
                         "Write the text again: it was cut in the middle of a character.") from reason
    return text


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


def write_new_bytes(path: Path, data: bytes) -> bool:
    """Put `data` at `path` in one step where nothing lies there; False, with nothing written, where something does.

    Raises:
        StorageError: as `write_bytes`.
    """
    try:
        with temporary_file(path) as (file, temporary):
            _fill(file, data)
            return _link(temporary, path)
    except OSError as reason:
        raise StorageError(path, reason) from reason


def make_new_folder(folder: Path, files: Mapping[str, bytes], draft: str) -> bool:
    """Make a folder with these files in one step; False, with nothing made, where the name is taken.

    Args:
        draft: name of the folder beside it in which they are written first; an earlier one of that name is replaced.

    Raises:
        StorageError: as `write_bytes`.
    """
    place = folder.with_name(draft)
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name, data in files.items():
            write_bytes(place / name, data)
        with contextlib.suppress(OSError):
            folder.rmdir()  # an empty one is free; Windows renames onto nothing at all
        try:
            place.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            return False
        _sync_directory(folder.parent)
        return True
    except OSError as reason:
        raise StorageError(folder, reason) from reason
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _replace(path: Path, data: bytes) -> None:
    with temporary_file(path) as (file, temporary):
        _fill(file, data)
        os.replace(temporary, path)
    _sync_directory(path.parent)


def _fill(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
    if os.name != "posix":
        file.close()  # Windows renames no open file


def _link(temporary: Path, path: Path) -> bool:
    """Give a written file its name, unless that is taken; in one step where the file system has hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        if path.exists():
            return False
        os.replace(temporary, path)
    _sync_directory(path.parent)
    return True


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
    """The whole safetensors file; `metadata`, with the checksum of the content, becomes its one `personalize` key."""
    plain = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    whole = {**metadata, CHECKSUM: checksum(plain, metadata)}
    return save(plain, metadata={METADATA_KEY: canonical_json(whole)})


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """BLAKE2b of the metadata and of every tensor's name, kind, shape and bytes, in the order of their names."""
    digest = hashlib.blake2b(canonical_json({**metadata, CHECKSUM: None}).encode(), digest_size=20)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def holds(path: Path, data: bytes) -> bool:
    """Whether a file has the content of `tensors_to_bytes`, as written now or by a version without checksums."""
    try:
        there = path.read_bytes()
    except OSError:
        return False
    return there == data or there == _without_checksum(data)


def _without_checksum(data: bytes) -> bytes:
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    metadata = json.loads(header["__metadata__"][METADATA_KEY])
    del metadata[CHECKSUM]
    return save(load(data), metadata={METADATA_KEY: canonical_json(metadata)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file in one step.

    Raises:
        StorageError: as `write_bytes`.
    """
    write_bytes(path, tensors_to_bytes(tensors, metadata))


@dataclass(frozen=True, eq=False)
class Content:
    """What a file holds.

    Attributes:
        tensors: copies, for Windows replaces no file that is still mapped.
        metadata: of the `personalize` key, without the checksum.
        is_as_written: whether the checksum agrees, or there is none.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    is_as_written: bool


def read_metadata(path: Path) -> dict[str, Any]:
    """The file's `personalize` metadata, without reading its tensors.

    Raises:
        InputError: for a missing, pickled, corrupt or foreign file, or one of a newer version.
    """
    return {name: value for name, value in _read_metadata(path).items() if name != CHECKSUM}


def read_content(path: Path) -> Content:
    """All tensors and the metadata of a file that another program may have changed since it was written.

    Raises:
        InputError: as `read_metadata`, and for NaN.
    """
    metadata = _read_metadata(path)
    noted = metadata.pop(CHECKSUM, None)
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # the open file itself cannot be iterated
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except UNREADABLE as reason:
        raise _unreadable(path, f"a corrupt file ({reason})") from reason
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise _unreadable(path, f"NaN or infinite values in {name}")
    return Content(tensors, metadata, noted is None or noted == checksum(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the metadata of a file as it was written.

    Raises:
        InputError: as `read_content`, and for a file whose checksum differs.
    """
    content = read_content(path)
    if not content.is_as_written:
        raise _unreadable(path, "a damaged file, whose checksum differs")
    return content.tensors, content.metadata


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite, in any dtype."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return bool((tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all())


def _read_metadata(path: Path) -> dict[str, Any]:
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except UNREADABLE as reason:
        raise _unreadable(path, f"a corrupt file ({reason})") from reason
    if text is None:
        raise InputError("file", f"{path}, which another program made", "a file that was saved as a personalization",
                         "Load files of other programs with the stock LoRA loader.")
    return parse(path, text)


def _refuse_pickle(path: Path) -> None:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)  # a pipe would be waited for
        start = _first_bytes(path) if is_file else b""
    except (OSError, ValueError) as reason:
        raise _unreadable(path, getattr(reason, "strerror", None) or str(reason)) from reason
    if not is_file:
        raise _unreadable(path, "a folder or a device")
    if start.startswith(PICKLE_STARTS):
        raise InputError("file", f"{path}, a pickled file that could run code", "a safetensors file",
                         "Save the personalization again.")


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(8)


def _unreadable(path: Path, got: str) -> InputError:
    return InputError("file", f"{path}: {got}", "a whole safetensors file of a personalization", CHOOSE)
