"""Memory that is still held: counts storages of tensors, those too that C++ alone holds and that no collector sees."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


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
        output = func(*args, **(kwargs or {}))
        for tensor in _made(func, output):
            storage = tensor.untyped_storage()
            self._found[StorageWeakRef(storage)] = storage.nbytes()
        return output

    def held(self) -> Held:
        """What is alive now, once Python's collector has run."""
        gc.collect()
        self._found = {storage: size for storage, size in self._found.items() if not storage.expired()}
        return Held(len(self._found), sum(self._found.values()))


def _made(func: Any, output: Any) -> Iterator[torch.Tensor]:
    """The tensors of an operation's output that are no views of its inputs, as its signature says."""
    returns = func._schema.returns
    for declared, value in zip(returns, (output,) if len(returns) == 1 else output or (), strict=True):
        if declared.alias_info is None:
            for part in value if isinstance(value, list | tuple) else (value,):
                if isinstance(part, torch.Tensor):
                    yield part
