"""Adapters as the tensors of files that other programs read, such that what they make of them is what was trained.

The names and formulas are those of ComfyUI's `comfy/weight_adapter`, which are LyCORIS' and kohya's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .config import OFT, RSLORA
from .layers import NAME, base_weight, named_tensors, row_norms

COMFYUI = "ComfyUI: LoraLoader and LoadPersonalization"
SD_SCRIPTS = "kohya's sd-scripts and programs that read its LoRA files"
_LORA = (COMFYUI, "diffusers: load_lora_weights", SD_SCRIPTS)
_LYCORIS = (COMFYUI, "programs that read LyCORIS files")
READERS = {"lora": _LORA, RSLORA: _LORA, "lokr": _LYCORIS, "loha": _LYCORIS}
"""Who reads a kind's file; ComfyUI alone where it is not named: a DoRA's norms are rescaled for it, and OFT and full
weights are differences to this base model."""


NOT_IN_SD_SCRIPTS = tuple(f"lora_unet_{layer}" for layer in ("conv_in", "conv_out", "time_embedding", "add_embedding"))
"""Layers of a UNet outside its blocks: sd-scripts makes no module for them, and drops their tensors without a word."""


def readers(kind: str) -> tuple[str, ...]:
    """Programs that read the exported file of a kind."""
    return READERS.get(kind, (COMFYUI,))


def readers_of_layers(programs: Iterable[str], names: Iterable[str]) -> list[str]:
    """Of the programs that read a kind, those that read every tensor of a file with these names."""
    has_others = any(name.startswith(NOT_IN_SD_SCRIPTS) for name in names)
    return [program for program in programs if not (has_others and program == SD_SCRIPTS)]


@torch.no_grad()
def export_layer(kind: str, layer: nn.Module, alpha: float) -> dict[str, Tensor]:
    """One peft layer's tensors by the last part of their names."""
    tensors = {name: parameter.detach().clone() for name, parameter in named_tensors(layer)}
    return {name: tensor.cpu().contiguous() for name, tensor in _FORMS[kind](layer, tensors, alpha).items()}


def _lora(_: nn.Module, tensors: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """W + (alpha / rank) up down."""
    return {"lora_down.weight": tensors["lora_A.weight"], "lora_up.weight": tensors["lora_B.weight"],
            "alpha": torch.tensor(float(alpha))}


def _rslora(layer: nn.Module, tensors: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """W + (alpha / sqrt(rank)) up down: readers divide alpha by the rank."""
    return _lora(layer, tensors, alpha * math.sqrt(len(tensors["lora_A.weight"])))


def _dora(layer: nn.Module, tensors: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(dora_scale / ||W||) (W + s up down), as ComfyUI reads it; what trained is m / ||W + s up down|| of the same.

    So dora_scale = m ||W|| / ||W + s up down||, (out, 1): exact for this base model at strength 1.
    """
    down, up = tensors["lora_A.weight"], tensors["lora_B.weight"]
    weight = base_weight(layer)
    change = (up.flatten(1) @ down.flatten(1)).view_as(weight) * (alpha / len(down))
    scale = tensors["lora_magnitude_vector.weight"].flatten() * row_norms(weight) / row_norms(weight + change)
    return _lora(layer, tensors, alpha) | {"dora_scale": scale.view(-1, *[1] * (weight.ndim - 1))}


def _lokr(layer: nn.Module, tensors: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """W + w1 (x) w2. The scale goes into w1, for readers take alpha / rank as 1 where both factors are whole."""
    scaling = layer.scaling[NAME]  # type: ignore[index]
    whole = {"lokr_w1": tensors["lokr_w1"] * scaling}
    if "lokr_w2" in tensors:
        return whole | {"lokr_w2": tensors["lokr_w2"]}
    weight, inner = base_weight(layer), tensors["lokr_w2_a"] @ tensors["lokr_w2_b"]
    if weight.ndim == 4:  # readers without merging want a convolution's second factor whole
        return whole | {"lokr_w2": inner.view(len(inner), -1, *weight.shape[2:])}
    return whole | {name: tensors[name] for name in ("lokr_w2_a", "lokr_w2_b")}


def _loha(_: nn.Module, tensors: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """W + (alpha / rank) (w1_a w1_b) * (w2_a w2_b)."""
    return tensors | {"alpha": torch.tensor(float(alpha))}


def _oft(layer: nn.Module, _: dict[str, Tensor], __: float) -> dict[str, Tensor]:
    """W R^T - W: peft rotates a layer's inputs, the files' OFT its outputs, so the difference itself is stored."""
    weight = base_weight(layer)
    rotation = layer.get_delta_weight(NAME).float()  # type: ignore[operator]
    return {"diff": (weight.flatten(1) @ rotation.T).view_as(weight) - weight}


_FORMS: dict[str, Callable[[nn.Module, dict[str, Tensor], float], dict[str, Tensor]]] = {
    "lora": _lora, RSLORA: _rslora, "dora": _dora, "lokr": _lokr, "loha": _loha, OFT: _oft,
}
