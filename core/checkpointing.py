"""Gradient checkpointing of a network that has none of its own: blocks are recomputed in the backward pass
(Chen et al. 2016, arXiv:1604.06174), for as long as a context lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


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
def checkpointed(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Within the context the blocks keep only their inputs, and are recomputed in the backward pass."""
    own = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        block.forward = _recomputed(block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            if forward is None:
                del block.__dict__["forward"]
            else:
                block.forward = forward


def measure_activation_bytes(forward: Callable[[], object]) -> int:
    """Bytes that a forward pass keeps for its backward pass; they are held until this returns, so pass a
    forward of one row and multiply."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
        total = sum(storage.nbytes() for storage in kept.values())
    del output
    return total


def is_needed(activation_bytes: int, free_bytes: int) -> bool:
    """Whether activations would take more than four fifths of the free memory; the rest is for all else."""
    return activation_bytes > 0.8 * free_bytes


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return forward(*map(_own_dict, args), **{name: _own_dict(value) for name, value in kwargs.items()})

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(run, *map(_own_dict, args), use_reentrant=False,
                          **{name: _own_dict(value) for name, value in kwargs.items()})

    return wrapped


def _own_dict(value: Any) -> Any:
    """A copy of a dict: networks write their position into the options they hand down, and the recomputation
    must see those of the first pass."""
    return dict(value) if isinstance(value, dict) else value
