"""What a file among the LoRAs, embeddings and outputs can hold when somebody means harm, or a program went wrong."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from ...core.store.files import METADATA_KEY, tensors_to_bytes

DEEP = 100_000
WRONG: Mapping[str, Any] = {
    "null": None, "list": [1], "text": "x", "negative": -1, "huge": 10**400, "object": {"a": 1}, "true": True,
    "empty": "", "empty list": [], "surrogate": "\ud800", "float": 0.5}
ESCAPES = ("../../escaped", "/etc/passwd", "..\\..\\escaped", "a" * 10_000, "con", "x\0y", "../" * 300 + "etc/passwd",
           "\ud800", "", ".", "~/x", "file:///etc/passwd", "//server/share/x")


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def plain_contents(mark: Path) -> Iterator[tuple[str, bytes]]:
    """Bytes that are no safetensors file of ours, whatever they stand for."""
    yield "empty", b""
    yield "one byte", b"{"
    yield "zeros", bytes(4096)
    yield "noise", bytes(range(256)) * 16
    for power in (16, 27, 40, 63):
        yield f"a header of 2^{power} bytes", struct.pack("<Q", 2**power) + b"{}" + bytes(64)
    yield "a header that is a list", raw_file(b"[]")
    yield "a header that is deep", raw_file(b"[" * DEEP)
    yield "a header of deep objects", raw_file(b'{"a":' * DEEP)
    yield "a tensor that ends before it starts", raw_file(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}')
    yield "a tensor beyond the end", raw_file(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999]}}')
    yield "a tensor of 2^62 values", raw_file(b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,4]}}' % 2**62)
    yield "an unknown dtype", raw_file(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}')
    yield "names that are equal", raw_file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                                           b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}')
    for protocol in range(6):
        yield f"a pickle of protocol {protocol}", pickle.dumps(Payload(mark), protocol)
    stream = io.BytesIO()
    torch.save({"a": Payload(mark)}, stream)
    yield "a file of torch.save", stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../escaped", b"x")
    yield "a zip that leads out", stream.getvalue()
    for name, text in metadata_texts():
        yield f"metadata: {name}", save({"a": torch.zeros(1)}, {METADATA_KEY: text})


def metadata_texts() -> Iterator[tuple[str, str]]:
    """Texts in place of the JSON of our metadata."""
    yield "deep lists", "[" * DEEP
    yield "deep objects", '{"a":' * DEEP
    yield "closed deep lists", "[" * DEEP + "]" * DEEP
    yield "deep inside identifiers", '{"identifiers":' + "[" * DEEP + "]" * DEEP + "}"
    yield "no JSON", "{"
    yield "a number of 5,000 digits", "9" * 5000
    yield "a number of 5,000 digits inside", '{"identifiers":["sks"],"steps":' + "9" * 5000 + "}"
    yield "infinity", '{"identifiers":["sks"],"steps":Infinity}'
    yield "an escaped surrogate", '{"identifiers":["\\ud800"]}'
    for value in WRONG.values():
        yield f"{json.dumps(value)[:20]}", json.dumps(value)


def changed_contents(good: bytes, keys: Callable[[Any], bytes] | None = None) -> Iterator[tuple[str, bytes]]:
    """Files that are written as ours are, checksums and all, with other tensors or other metadata."""
    tensors, metadata = load(good), read(good)
    first = next(iter(tensors), "")
    yield "no tensors", tensors_to_bytes({}, metadata)
    if first:
        yield "a tensor is missing", tensors_to_bytes({k: v for k, v in tensors.items() if k != first}, metadata)
        yield "half of the tensors", tensors_to_bytes(dict(list(tensors.items())[::2]), metadata)
        yield "a tensor has another name", tensors_to_bytes({f"{k}x" if k == first else k: v
                                                              for k, v in tensors.items()}, metadata)
    for name, change in tensor_changes():
        try:
            yield name, tensors_to_bytes({key: change(value) for key, value in tensors.items()}, metadata)
        except Exception:  # noqa: BLE001, S112 - torch has no such conversion for this tensor
            continue
    yield "no metadata", save(tensors)
    for path in metadata_paths(metadata):
        yield f"metadata without {'.'.join(path)}", tensors_to_bytes(tensors, without(metadata, path))
        for what, value in WRONG.items():
            if value != value_at(metadata, path):
                try:
                    yield f"{'.'.join(path)} is {what}", tensors_to_bytes(tensors, replaced(metadata, path, value))
                except (UnicodeEncodeError, ValueError):  # cannot be written at all
                    continue


def tensor_changes() -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
    """Other dtypes, values and shapes."""
    for dtype in (torch.int64, torch.bool, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn):
        yield f"tensors of {dtype}", functools.partial(torch.Tensor.to, dtype=dtype)
    yield "NaN", lambda value: torch.full_like(value.float(), float("nan"))
    yield "infinity", lambda value: torch.full_like(value.float(), float("inf"))
    yield "1e30", lambda value: torch.full_like(value.float(), 1e30)
    yield "a dimension more", lambda value: value[None]
    yield "no dimension", lambda value: value.flatten()[0].clone()
    yield "transposed", lambda value: value.T.contiguous()
    yield "no rows", lambda value: value[:0]
    yield "twice the rows", lambda value: torch.cat([value, value])


def metadata_paths(metadata: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where values are, down to two levels."""
    for key, value in metadata.items():
        yield (*above, key)
        if isinstance(value, dict) and len(above) < 2:
            yield from metadata_paths(value, (*above, key))


def value_at(metadata: Any, path: tuple[str, ...]) -> Any:
    """The value at a path."""
    for key in path:
        metadata = metadata[key]
    return metadata


def replaced(metadata: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at a path."""
    first, *rest = path
    return {**metadata, first: replaced(metadata[first], tuple(rest), value) if rest else value}


def without(metadata: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy without what is at a path."""
    first, *rest = path
    if rest:
        return {**metadata, first: without(metadata[first], tuple(rest))}
    return {key: value for key, value in metadata.items() if key != first}


def escapes(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Files whose metadata names learned words in other places."""
    tensors, metadata = load(good), read(good)
    for path in ESCAPES:
        for key in ("sks", path):
            with_words = {**metadata, "embeddings": {key: path}}
            try:
                yield f"words at {path[:20]!r} for {key[:8]!r}", tensors_to_bytes(tensors, with_words)
            except (UnicodeEncodeError, ValueError):
                continue


def read(data: bytes) -> dict[str, Any]:
    """Our metadata of a file's bytes, without a checksum, for one is made anew."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(json.loads(data[8:8 + size])["__metadata__"][METADATA_KEY])
    return {key: value for key, value in metadata.items() if key not in ("checksum", "digest")}


def raw_file(header: bytes) -> bytes:
    """A safetensors file with this header and some bytes."""
    return struct.pack("<Q", len(header)) + header + bytes(64)
