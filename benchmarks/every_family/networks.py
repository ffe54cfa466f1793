"""A MODEL of a case: its network with random weights, in ComfyUI's own classes."""

from __future__ import annotations

import math
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from .case import Case

CPU = torch.device("cpu")


def build_model(case: Case, seed: int = 0) -> ModelPatcher:
    """The MODEL, in float32 on the CPU, as a loader hands it to the graph."""
    with torch.inference_mode():
        config = case.config(dict(case.network))
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model(dict(case.markers), "", device=CPU)
        randomise(model.diffusion_model, seed)
        model.diffusion_model.requires_grad_(False)
        return ModelPatcher(model, load_device=CPU, offload_device=CPU)


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0, frozen: tuple[str, ...] = ()) -> None:
    """Matrices N(0, 1 / fan-in), gains near 1, biases near 0: nothing is zero that training would find dead.

    Args:
        frozen: parameters whose names have one of these in them stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if any(part in name for part in frozen):
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_((noise / math.sqrt(max(1, parameter[0].numel()))).to(parameter.dtype))
        else:
            is_gain = name.endswith(("weight", "scale", "gamma", "inv_freq"))
            parameter.copy_((float(is_gain) + 0.02 * noise).to(parameter.dtype))
    for name, table in module.named_buffers():
        if name == "pos_embed":  # of SD3, which stock code leaves as it finds the memory
            table.copy_(torch.randn(table.shape, generator=generator).to(table.dtype))


def describe(module: nn.Module) -> Any:
    """What of a network must be as before, beside its weights: classes, hooks, forwards put over a layer's own."""
    return [(name, type(part), len(part._forward_pre_hooks), len(part._forward_hooks), "forward" in part.__dict__)
            for name, part in module.named_modules()]
