"""A network that trains while ComfyUI streams its layers: what is not streamed in both passes stays on the device.

ComfyUI chooses what fits, pins the rest in memory and casts it for each forward, with dynamic VRAM page by page,
without it layer by layer. Of linear layers and convolutions nothing is kept (`frozen_layers`). Norms and single
parameters are small, and autograd does keep them, so they may be in none of the buffers that ComfyUI uses again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .frozen_layers import can_stream


@contextmanager
def rest_on_device(patcher: Any) -> Iterator[Callable[[], None]]:
    """Yields a function that moves what is not streamed to the device of a loaded patcher; at the end it is where it
    was."""
    moved: list[tuple[nn.Module, str, Tensor, nn.Parameter]] = []

    def move() -> None:
        put_back()
        for path, part in patcher.model.named_modules():
            if not can_stream(part):
                moved.extend(_move(patcher, path, part))

    def put_back() -> None:
        for part, name, own, copy in moved:
            if part._parameters.get(name) is copy:
                part._parameters[name] = own  # type: ignore[assignment]
        moved.clear()

    try:
        yield move
    finally:
        put_back()


def _move(patcher: Any, path: str, part: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor, nn.Parameter]]:
    """The parameters of one module, where they are elsewhere: the module, name, what it was and what it is."""
    for name, own in part._parameters.items():
        if own is not None and own.device != patcher.load_device:
            key = f"{path}.{name}" if path else name
            if key in patcher.pinned:
                patcher.unpin_weight(key)
            copy = nn.Parameter(own.detach().to(patcher.load_device, copy=True), requires_grad=False)
            part._parameters[name] = copy
            yield part, name, own, copy
    for name, buffer in part._buffers.items():
        if buffer is not None:
            part._buffers[name] = buffer.to(patcher.load_device)
