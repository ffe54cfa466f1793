"""LoHa (arXiv:2108.06098): W + (alpha / rank) times a Hadamard product of two low-rank matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .record import COMFYUI, LYCORIS, Kind, Tensors, number, zero

if TYPE_CHECKING:
    from peft import PeftConfig


def _config(rank: int, alpha: float, layers: str) -> PeftConfig:
    from peft import LoHaConfig

    return LoHaConfig(r=rank, alpha=number(alpha), target_modules=layers)


def _export(_: nn.Module, tensors: Tensors, alpha: float) -> Tensors:
    """W + (alpha / rank) (w1_a w1_b) * (w2_a w2_b)."""
    return tensors | {"alpha": torch.tensor(float(alpha))}


LOHA = Kind(name="loha", peft_config=_config, starts={"hada_w2_b": zero}, export=_export, programs=(COMFYUI, LYCORIS))
