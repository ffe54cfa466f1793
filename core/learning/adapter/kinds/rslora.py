"""rsLoRA (arXiv:2312.03732): W + (alpha / sqrt(rank)) B A, so that high ranks learn as fast as low ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from .lora import PROGRAMS, STARTS, export_product
from .record import Kind, Tensors, check_low_rank, number

if TYPE_CHECKING:
    from peft import PeftConfig


def _config(rank: int, alpha: float, layers: str) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=number(alpha), target_modules=layers, use_rslora=True)


def _export(layer: nn.Module, tensors: Tensors, alpha: float) -> Tensors:
    """W + (alpha / sqrt(rank)) up down: programs divide alpha by the rank."""
    return export_product(layer, tensors, alpha * math.sqrt(len(tensors["lora_A.weight"])))


RSLORA = Kind(name="rslora", peft_config=_config, starts=STARTS, export=_export, check_rank=check_low_rank,
              can_mask_rank=True, programs=PROGRAMS)
