"""CLIP objects of language models and T5: real tokenizer, stock encoder class, few small layers of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.sd
import torch
from comfy import supported_models_base

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2,
         "num_key_value_heads": 1}
"""ComfyUI's own way to change a text encoder's config."""
SMALL_T5 = {"d_ff": 128, "d_kv": 32, "d_model": 64, "num_heads": 2, "num_layers": 2}


def small_clip(encoder: type, tokenizer: type, key: str, sizes: Mapping[str, int] = SMALL,
               **config: Any) -> comfy.sd.CLIP:
    """The CLIP of a family, as its loader would make it, in float32."""
    cpu = torch.device("cpu")
    target = supported_models_base.ClipTarget(tokenizer, encoder)
    clip = comfy.sd.CLIP(target, parameters=1, model_options={
        f"{key}_model_config": {**sizes, **config}, "load_device": cpu, "offload_device": cpu, "initial_device": cpu,
        "dtype": torch.float32})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in clip.cond_stage_model.named_parameters():
            if "visual" in name:  # of its published size, and no text reaches it
                continue
            if weight.ndim == 2:
                spread = 1.0 if "embed_tokens" in name or "shared" in name else weight.shape[1] ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            else:
                weight.fill_(1.0)
    return clip
