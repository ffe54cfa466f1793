"""Gradient checkpointing of a network that has none of its own: blocks are recomputed in the backward pass
(Chen et al. 2016, arXiv:1604.06174), for as long as a context lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint, noop_context_fn

Contexts = Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """The outermost composite modules below `module`, with its lists and sequences opened: residual and
    transformer blocks of a UNet, layers of a transformer. Larger pieces save little, smaller ones no more."""
    blocks: list[nn.Module] = []
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            blocks += find_blocks(child)
        elif any(True for _ in child.children()):
            blocks.append(child)
    return blocks


@contextmanager
def checkpointed(blocks: Sequence[nn.Module], contexts: Contexts = noop_context_fn) -> Iterator[None]:
    """Within the context the blocks keep only their inputs, and are recomputed in the backward pass.

    Args:
        contexts: asked in every forward of a block: the contexts of that forward and of its recomputation.
    """
    with replaced_forwards(blocks, lambda block: _recomputed(block, contexts)):
        yield


@contextmanager
def replaced_forwards(blocks: Sequence[nn.Module], make: Callable[[nn.Module], Callable[..., Any]]) -> Iterator[None]:
    """Within the context each block's forward is what `make` makes of the block; afterwards it is its own."""
    own = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        block.forward = make(block)
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            if forward is None:
                del block.__dict__["forward"]
            else:
                block.forward = forward


@dataclass(frozen=True)
class Kept:
    """Bytes that a forward pass of one row keeps for its backward pass, beside the weights themselves.

    Attributes:
        copies: of weights in another dtype; no more for more rows.
        activations: in proportion to the rows.
    """

    copies: int
    activations: int


def measure_kept(forward: Callable[[], object], weights: Iterable[Tensor] = ()) -> Kept:
    """What a forward pass of one row would keep for its backward pass; here nothing is kept, so that it cannot be run.

    Args:
        weights: the network's. What has the shape of one, transposed or not, in another dtype is taken for its copy.
    """
    known = [weight for weight in weights if type(weight.data) is Tensor]  # of quantised ones nothing is kept
    own = {weight.untyped_storage().data_ptr() for weight in known}
    shapes = {(shape, weight.dtype) for weight in known for shape in (tuple(weight.shape), tuple(weight.shape)[::-1])}
    cast = {shape for shape, dtype in shapes if dtype != torch.float32}
    copies: dict[StorageWeakRef, int] = {}
    activations: dict[StorageWeakRef, int] = {}

    def count(tensor: Tensor) -> None:
        # Never the tensor itself: an operation that saves its output would hold itself for ever, unseen by gc.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            is_copy = tuple(tensor.shape) in cast and (tuple(tensor.shape), tensor.dtype) not in shapes
            (copies if is_copy else activations)[StorageWeakRef(storage)] = storage.nbytes()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, _refuse):
        forward()
    return Kept(*(sum(part.values()) for part in (copies, activations)))


def is_needed(kept: Kept, rows: int, free_bytes: float) -> bool:
    """Whether so many rows would keep more than four fifths of the free memory; the rest is for all else."""
    return kept.copies + rows * kept.activations > 0.8 * free_bytes


def _refuse(_: None) -> Tensor:
    raise RuntimeError("measure_kept: a backward pass was run inside it, expected a forward pass alone")


def _recomputed(block: nn.Module, contexts: Contexts) -> Callable[..., Any]:
    forward = block.forward

    def on_copies(*args: Any, **kwargs: Any) -> Any:
        copies_tensors = _CHANGES_INPUTS[block]
        return forward(*(_own(value, copies_tensors) for value in args),
                       **{name: _own(value, copies_tensors) for name, value in kwargs.items()})

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        if block not in _CHANGES_INPUTS:
            _CHANGES_INPUTS[block] = _changes_inputs(forward, args, kwargs)
        return checkpoint(on_copies, *map(_own, args), use_reentrant=False, context_fn=contexts,
                          **{name: _own(value) for name, value in kwargs.items()})

    return wrapped


_CHANGES_INPUTS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether a block adds to its inputs in place, as Flux's do: found out once, for a copy for nothing changes in which
order gradients are summed."""


@torch.no_grad()
def _changes_inputs(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    copies = [_own(value, True) for value in args]
    named = {name: _own(value, True) for name, value in kwargs.items()}
    forward(*copies, **named)
    return any(isinstance(value, Tensor) and value._version > 0 for value in (*copies, *named.values()))


def _own(value: Any, copies_tensors: bool = False) -> Any:
    """A copy of a dict: networks write their position into the options they hand down, and the recomputation
    must see those of the first pass. Of a tensor where it is asked for."""
    if isinstance(value, Tensor) and copies_tensors:
        return value.clone()
    return dict(value) if isinstance(value, dict) else value
