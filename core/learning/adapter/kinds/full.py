"""All weights themselves (DreamBooth, arXiv:2208.12242): no adapter; `FullWeights` puts copies in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from torch import nn

from .record import Kind

if TYPE_CHECKING:
    from collections.abc import Callable


def _none(*_: object) -> NoReturn:
    raise TypeError("full weights are no adapter of peft's")


def _takes(layer: nn.Module) -> bool:
    """Every module with parameters of its own."""
    return any(True for _ in layer.parameters(recurse=False))


_NOT_AN_ADAPTER: Callable[..., NoReturn] = _none

FULL = Kind(name="full", peft_config=_NOT_AN_ADAPTER, starts={}, export=_NOT_AN_ADAPTER, takes=_takes,
            needs_whole_weights=True, layers="layer")
