"""The weight that a peft layer stands around, and its size by row."""

from __future__ import annotations

from torch import Tensor, nn

NAME = "default"
"""Of the adapter in a peft layer."""


def base_weight(layer: nn.Module) -> Tensor:
    """The base layer's own weight in float32, also where only the layer itself can read it."""
    base = layer.base_layer
    whole = getattr(base, "whole_weight", None)
    weight: Tensor = base.weight.detach().float() if whole is None else whole()  # type: ignore[union-attr, operator]
    return weight


def row_norms(weight: Tensor) -> Tensor:
    """||W|| of every output row, (out,)."""
    norms: Tensor = weight.flatten(1).norm(dim=1)
    return norms
