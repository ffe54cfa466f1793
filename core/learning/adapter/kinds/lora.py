"""LoRA (arXiv:2106.09685): W + (alpha / rank) B A."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .record import COMFYUI, DIFFUSERS, SD_SCRIPTS, Kind, Tensors, check_low_rank, number, zero

if TYPE_CHECKING:
    from peft import PeftConfig

STARTS = {"lora_B": zero}
PROGRAMS = (COMFYUI, DIFFUSERS, SD_SCRIPTS)


def _config(rank: int, alpha: float, layers: str) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=number(alpha), target_modules=layers)


def export_product(_: nn.Module, tensors: Tensors, alpha: float) -> Tensors:
    """W + (alpha / rank) up down."""
    return {"lora_down.weight": tensors["lora_A.weight"], "lora_up.weight": tensors["lora_B.weight"],
            "alpha": torch.tensor(float(alpha))}


LORA = Kind(name="lora", peft_config=_config, starts=STARTS, export=export_product, check_rank=check_low_rank,
            can_mask_rank=True, programs=PROGRAMS)
