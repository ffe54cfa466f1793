"""How much memory a training step takes beside the weights, found out without any of it: the tensors are imagined.

PyTorch's fake tensors have a shape, a dtype and a device, and no content, so that a network of any size runs in no
memory. Every kind of block is run forward and backward once, on its own; others of the same shapes are counted and not
run. Nothing is loaded, and no weight is read.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from .gradient_checkpointing import find_blocks, replaced_forwards


@dataclass(frozen=True)
class Activations:
    """Bytes at the highest point of a step, beside the weights and what the optimiser keeps. Gradients of what trains
    are in it: as many as there are by then, for they come while activations go.

    Attributes:
        kept: where every activation is kept for the backward pass.
        recomputed: where blocks keep their inputs alone and are recomputed.
    """

    kept: int
    recomputed: int


@contextmanager
def imagined(module: nn.Module, stand_in: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the context every parameter and buffer of the module is what `stand_in` makes of it; afterwards they are
    the very same tensors. Tied weights stay tied."""
    own: list[tuple[dict[str, Any], str, Tensor]] = []
    made: dict[int, Tensor] = {}
    try:
        for part in module.modules():
            stores: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
            for store in stores:
                for name, tensor in ((name, tensor) for name, tensor in store.items() if tensor is not None):
                    if id(tensor) not in made:
                        made[id(tensor)] = _like(tensor, stand_in(tensor))
                    own.append((store, name, tensor))
                    store[name] = made[id(tensor)]
        yield
    finally:
        for store, name, tensor in own:
            store[name] = tensor


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations within it make.

    Attributes:
        now: of those that something holds.
        highest: the most at any time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.highest = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_iter((args, kwargs)):
            if isinstance(tensor, Tensor):  # what was there before, of which a view is no new storage
                self._count(tensor.untyped_storage(), 0)
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._count(storage, storage.nbytes())
        return made

    def _count(self, storage: Any, size: int) -> None:
        key = id(storage)
        if key in self._seen:
            return

        def gone(_: object) -> None:
            self.now -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.highest = max(self.highest, self.now)


def measure_activations(forward: Callable[[], object], module: nn.Module) -> Activations:
    """What a step of `forward`, over fake tensors, takes.

    Args:
        module: the network inside it, whose blocks could be recomputed. Its weights are fake, what trains asks for a
            gradient.
    """
    step = _Step(module)
    counted = replaced_forwards(find_blocks(module), partial(_counted, step))
    with torch.enable_grad(), counted, saved_tensors_hooks(step.keep, _refuse):
        forward()
    return step.activations()


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What a kind of block takes.

    Attributes:
        kept: bytes kept for the backward pass that belong to none of its inputs and outputs.
        kept_inputs: the numbers of the inputs that are kept.
        kept_outputs: the numbers of the outputs that are kept.
        backward: bytes of its backward pass at the highest, above what is kept; its gradients are in it.
        whole: bytes of both passes at the highest, above its inputs, likewise.
        outputs: what it gives, without content.
    """

    kept: int
    kept_inputs: tuple[int, ...]
    kept_outputs: tuple[int, ...]
    backward: int
    whole: int
    outputs: Any


class _Storages:
    """Different storages and their bytes."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.bytes = 0

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) not in self.held:
            self.held[id(storage)] = storage
            self.bytes += storage.nbytes()


class _Step:
    """What a forward pass keeps, as its blocks and what is between them say one after the other.

    The backward pass takes the blocks in the opposite order: at a block, what earlier ones keep is still there, and so
    are the gradients of later ones.
    """

    def __init__(self, module: nn.Module):
        self._weights, self._trained, self._passed = _Storages(), _Storages(), _Storages()
        for tensor in (*module.parameters(), *module.buffers()):
            self._weights.add(tensor)
            if tensor.requires_grad:
                self._trained.add(tensor)
        self._kept, self._if_recomputed = _Storages(), _Storages()
        self._inside = self._highest = self._highest_if_recomputed = 0
        self._known: dict[Any, _Block] = {}

    def keep(self, tensor: Tensor) -> None:
        """A tensor that something between the blocks keeps."""
        if not self._is_weight(tensor):
            self._kept.add(tensor)
            self._if_recomputed.add(tensor)

    def run(self, forward: Callable[..., Any], kind: Any, trained: Sequence[Tensor], args: Any) -> Any:
        """A block's outputs, without content."""
        inputs = [leaf for leaf in tree_iter(args) if isinstance(leaf, Tensor)]
        key = kind, tuple((tuple(leaf.shape), leaf.dtype, leaf.requires_grad) for leaf in inputs)
        if key not in self._known:
            self._known[key] = self._measured(forward, trained, args)
        block = self._known[key]
        made = tree_map_only(Tensor, _fresh, block.outputs)
        outputs = [leaf for leaf in tree_iter(made) if isinstance(leaf, Tensor)]
        for tensor in trained:
            self._passed.add(tensor)
        gradients = self._trained.bytes - self._passed.bytes
        for tensor in inputs:
            self._if_recomputed.add(tensor)
        for tensor in (*(inputs[number] for number in block.kept_inputs),
                       *(outputs[number] for number in block.kept_outputs)):
            self._kept.add(tensor)
        self._inside += block.kept
        self._highest = max(self._highest, self._kept.bytes + self._inside + block.backward + gradients)
        self._highest_if_recomputed = max(self._highest_if_recomputed,
                                          self._if_recomputed.bytes + block.whole + gradients)
        return made

    def activations(self) -> Activations:
        """Of the whole step."""
        gradients = self._trained.bytes
        return Activations(kept=max(self._highest, self._kept.bytes + self._inside, gradients),
                           recomputed=max(self._highest_if_recomputed, self._if_recomputed.bytes, gradients))

    def _is_weight(self, tensor: Tensor) -> bool:
        return id(tensor.untyped_storage()) in self._weights.held

    def _measured(self, forward: Callable[..., Any], trained: Sequence[Tensor], args: Any) -> _Block:
        """A block, forward and backward on inputs of its own."""
        leaves: list[Tensor] = []

        def own(tensor: Tensor) -> Tensor:
            leaves.append(tensor.detach().clone().requires_grad_(tensor.requires_grad))
            return leaves[-1].clone()  # which may be changed in place

        positional, named = tree_map_only(Tensor, own, args)
        inputs = [id(leaf.untyped_storage()) for leaf in tree_iter((positional, named)) if isinstance(leaf, Tensor)]
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if not self._is_weight(tensor):
                sizes[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
            return tensor.detach()  # never itself: what saves its own output would hold itself for ever

        with LiveBytes() as live, saved_tensors_hooks(keep, lambda tensor: tensor):
            made = forward(*positional, **named)
        tensors = [leaf for leaf in tree_iter(made) if isinstance(leaf, Tensor)]
        outputs = [id(leaf.untyped_storage()) for leaf in tensors]
        after, whole = live.now, live.highest
        live.highest = after
        _backward(tensors, [*(leaf for leaf in leaves if leaf.requires_grad), *trained], live)
        known = {*inputs, *outputs}
        return _Block(
            kept=sum(size for key, size in sizes.items() if key not in known),
            kept_inputs=tuple(number for number, key in enumerate(inputs) if key in sizes),
            kept_outputs=tuple(number for number, key in enumerate(outputs) if key in sizes and key not in inputs),
            backward=live.highest - after, whole=max(whole, live.highest),
            outputs=tree_map_only(Tensor, lambda leaf: leaf.detach().requires_grad_(leaf.requires_grad), made))


def _backward(outputs: Sequence[Tensor], wanted: Sequence[Tensor], live: LiveBytes) -> None:
    """The gradients of what is wanted, forgotten again."""
    given = [output for output in outputs if output.requires_grad]
    if not given or not wanted:
        return
    with torch.autocast(given[0].device.type, enabled=False), live:
        torch.autograd.grad(given, wanted, [torch.empty_like(output) for output in given], allow_unused=True)


def _counted(step: _Step, block: nn.Module) -> Callable[..., Any]:
    forward = block.forward
    weights = tuple((name, tuple(parameter.shape), parameter.dtype, parameter.requires_grad)
                    for name, parameter in block.named_parameters())
    trained = [parameter for parameter in block.parameters() if parameter.requires_grad]
    return lambda *args, **kwargs: step.run(forward, (type(block), weights), trained, (args, kwargs))


def _fresh(tensor: Tensor) -> Tensor:
    """A tensor of the same kind, which may be changed in place."""
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return made.requires_grad_().clone() if tensor.requires_grad else made


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    return nn.Parameter(other, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else other


def _refuse(_: object) -> Tensor:
    raise RuntimeError("measure_activations: a backward pass was run inside it, expected a forward pass alone")
