"""Which programs read the LoRA files of families without a record of their own, by ComfyUI's names of their configs.

diffusers 0.42: `lora_state_dict` of its pipelines takes our names (`lora_unet_` and ComfyUI's own names of the layers)
apart into its own; tests/nodes/bridge/model/test_families_programs.py compares every tensor. sd-scripts: the layers are
named as its `networks/lora_flux.py` (Chroma), `lora_lumina.py` and `lora_anima.py` name them. Others: ComfyUI alone.
"""

from __future__ import annotations

from typing import Any

DIFFUSERS = frozenset({"QwenImage", "ZImage", "Flux2", "WAN21_T2V", "Chroma"})
SD_SCRIPTS = frozenset({"Chroma", "Lumina2", "Anima"})


def is_read_by_diffusers(base: Any) -> bool:
    """Whether `load_lora_weights` reads a LoRA of ComfyUI's model."""
    return type(base.model_config).__name__ in DIFFUSERS


def is_read_by_sd_scripts(base: Any) -> bool:
    """Whether kohya's sd-scripts name the model's layers as our files do."""
    return type(base.model_config).__name__ in SD_SCRIPTS
