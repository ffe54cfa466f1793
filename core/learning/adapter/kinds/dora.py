"""DoRA (arXiv:2402.09353): m (W + (alpha / rank) B A) / ||W + (alpha / rank) B A|| by output row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..base_weight import base_weight, row_norms
from .lora import STARTS, export_product
from .record import Kind, Tensors, check_low_rank, number

if TYPE_CHECKING:
    from peft import PeftConfig


def _config(rank: int, alpha: float, layers: str) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=number(alpha), target_modules=layers, use_dora=True)


def _magnitude(layer: nn.Module) -> Tensor:
    """||W|| of every output row."""
    return row_norms(base_weight(layer))


def _export(layer: nn.Module, tensors: Tensors, alpha: float) -> Tensors:
    """(dora_scale / ||W||) (W + s up down), as ComfyUI reads it; what trained is m / ||W + s up down|| of the same.

    So dora_scale = m ||W|| / ||W + s up down||, (out, 1): exact for this base model at strength 1.
    """
    down, up = tensors["lora_A.weight"], tensors["lora_B.weight"]
    weight = base_weight(layer)
    change = (up.flatten(1) @ down.flatten(1)).view_as(weight) * (alpha / len(down))
    scale = tensors["lora_magnitude_vector.weight"].flatten() * row_norms(weight) / row_norms(weight + change)
    return export_product(layer, tensors, alpha) | {"dora_scale": scale.view(-1, *[1] * (weight.ndim - 1))}


DORA = Kind(name="dora", peft_config=_config, starts=STARTS | {"lora_magnitude_vector": _magnitude}, export=_export,
            check_rank=check_low_rank, needs_whole_weights=True)
