"""LoKr (arXiv:2309.14859): W + (alpha / rank) times a Kronecker product of low-rank factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ..base_weight import NAME
from .record import COMFYUI, LYCORIS, Kind, Tensors, number, zero

if TYPE_CHECKING:
    from peft import PeftConfig


def _config(rank: int, alpha: float, layers: str) -> PeftConfig:
    from peft import LoKrConfig

    return LoKrConfig(r=rank, alpha=number(alpha), target_modules=layers)


def _export(layer: nn.Module, tensors: Tensors, _: float) -> Tensors:
    """W + w1 (x) w2. The scale goes into w1, for programs take alpha / rank as 1 where both factors are whole."""
    scaling = layer.scaling[NAME]  # type: ignore[index]
    whole = {"lokr_w1": tensors["lokr_w1"] * scaling}
    if "lokr_w2" in tensors:
        return whole | {"lokr_w2": tensors["lokr_w2"]}
    base, inner = layer.base_layer, tensors["lokr_w2_a"] @ tensors["lokr_w2_b"]
    if isinstance(base, nn.Conv2d):  # programs without merging want a convolution's second factor whole
        return whole | {"lokr_w2": inner.view(len(inner), -1, *base.kernel_size)}
    return whole | {name: tensors[name] for name in ("lokr_w2_a", "lokr_w2_b")}


LOKR = Kind(name="lokr", peft_config=_config, starts={"lokr_w1": zero}, export=_export, programs=(COMFYUI, LYCORIS))
