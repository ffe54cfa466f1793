"""Memory that is still held: counts storages of tensors, those too that C++ alone holds and that no collector sees."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(NamedTuple):
    """What is alive of all that was made.

    Attributes:
        storages: how many.
        bytes: of them together.
    """

    storages: int
    bytes: int


class LiveStorages(TorchDispatchMode):
    """Within the context every storage that an operation of this thread makes is remembered, weakly."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        given = set(_storages((args, kwargs)))
        output = func(*args, **(kwargs or {}))
        self._found |= {storage: size for storage, size in _storages(output).items() if storage not in given}
        return output

    def held(self) -> Held:
        """What is alive now, once Python's collector has run."""
        gc.collect()
        self._found = {storage: size for storage, size in self._found.items() if not storage.expired()}
        return Held(len(self._found), sum(self._found.values()))


def _storages(values: Any) -> dict[StorageWeakRef, int]:
    """The storages of all tensors in nested values, with their bytes."""
    storages = (tensor.untyped_storage() for tensor in tree_leaves(values) if isinstance(tensor, torch.Tensor))
    return {StorageWeakRef(storage): storage.nbytes() for storage in storages}
