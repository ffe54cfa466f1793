"""Adapters as the tensors of files that other programs read, such that what they make of them is what was trained.

The names and formulas are those of ComfyUI's `comfy/weight_adapter`, which are LyCORIS' and kohya's.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .kinds import KINDS, SD_SCRIPTS, Kind
from .layers import named_tensors

NOT_IN_SD_SCRIPTS = tuple(f"lora_unet_{layer}" for layer in ("conv_in", "conv_out", "time_embedding", "add_embedding"))
"""Layers of a UNet outside its blocks: sd-scripts makes no module for them, and drops their tensors without a word."""

RANK_BY_TIMESTEP = ("ComfyUI: LoadPersonalization (LoraLoader and other programs read it, too, but apply the whole "
                    "rank at every step)")
"""Who reads a LoRA whose rank goes by the timestep."""


def programs_for_kind(kind: str) -> tuple[str, ...]:
    """Programs that read the exported file of a kind."""
    return KINDS[kind].programs


def programs_for_layers(programs: Iterable[str], names: Iterable[str]) -> list[str]:
    """Of the programs that read a kind, those that read every tensor of a file with these names."""
    has_others = any(name.startswith(NOT_IN_SD_SCRIPTS) for name in names)
    return [program for program in programs if not (has_others and program == SD_SCRIPTS)]


@torch.no_grad()
def export_layer(kind: Kind, layer: nn.Module, alpha: float) -> dict[str, Tensor]:
    """One peft layer's tensors by the last part of their names."""
    tensors = {name: parameter.detach().clone() for name, parameter in named_tensors(layer)}
    return {name: tensor.cpu().contiguous() for name, tensor in kind.export(layer, tensors, alpha).items()}
