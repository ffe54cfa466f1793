"""Names of a text encoder's layers in adapter files."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from .learned_vectors import CLIP_ENCODERS


def text_adapter_keys(module: nn.Module) -> Mapping[str, str]:
    """For each module path of the text encoder the stem of its keys: kohya's, which are those of the encoders' layers,
    and ComfyUI's own for all else (embeddings, norms outside of the layers, T5, language models)."""
    present = [name for name in CLIP_ENCODERS.values() if getattr(module, name, None) is not None]
    prefix = {"clip_l": "lora_te1", "clip_g": "lora_te2"}
    if len(present) == 1:
        prefix = {present[0]: "lora_te"}
    keys = {}
    for path, _ in module.named_modules():
        encoder, _, inside = path.partition(".transformer.")
        is_layer = encoder in prefix and re.fullmatch(r"text_model\.encoder\.layers\.\d+\.(self_attn|mlp)\.\w+", inside)
        keys[path] = f"{prefix[encoder]}_{inside.replace('.', '_')}" if is_layer else f"text_encoders.{path}"
    return keys
