"""The pocket image tower in ComfyUI's CLIPVisionLoader."""

from __future__ import annotations

import functools
from typing import Any

from comfy import clip_vision

from .. import config


def is_pocket_vision(state_dict: dict[str, Any]) -> bool:
    """Whether these are the tensors of the pocket image tower, by width, depth and patches."""
    patches = state_dict.get("vision_model.embeddings.patch_embedding.weight")
    layer = "vision_model.encoder.layers.{}.layer_norm1.weight"
    depth, width, size = (config.VISION_CONFIG[k] for k in ("num_hidden_layers", "hidden_size", "patch_size"))
    return (patches is not None and tuple(patches.shape) == (width, 3, size, size)
            and layer.format(depth - 1) in state_dict and layer.format(depth) not in state_dict)


def register_image_tower() -> None:
    """Let CLIPVisionLoader read the pocket image tower: ComfyUI keeps no list of image towers that one could join."""
    stock = clip_vision.load_clipvision_from_sd
    if getattr(stock, "knows_pocket", False):
        return

    @functools.wraps(stock)
    def load(sd: dict[str, Any], prefix: str = "", convert_keys: bool = False) -> Any:
        if not is_pocket_vision(sd):
            return stock(sd, prefix, convert_keys)
        tower = clip_vision.ClipVisionModel(dict(config.VISION_CONFIG))
        tower.load_sd({key: value for key, value in sd.items() if key.startswith("vis")})
        return tower

    load.knows_pocket = True  # type: ignore[attr-defined]
    clip_vision.load_clipvision_from_sd = load
