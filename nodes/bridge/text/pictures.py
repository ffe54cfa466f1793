"""Prompts with pictures, for text encoders that look at both, as stock nodes of edit models tokenize them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import comfy.utils
import torch
from torch import Tensor

SLOT = "<|vision_start|><|image_pad|><|vision_end|>"
"""Where the templates of Qwen's encoders put a picture."""
ALONE, OF_SEVERAL = 1024, 384
"""Side of the square that one picture is scaled to the area of, and one of several: TextEncodeQwenImageEdit and
TextEncodeQwenImageEditPlus."""


def sees_pictures(clip: Any) -> bool:
    """Whether the CLIP's tokenizer takes pictures into the prompt."""
    try:
        tokens = clip.tokenize("a", images=[torch.zeros(1, 32, 32, 3)])
    except TypeError:  # a tokenizer that takes no pictures
        return False
    return _pictures_in(tokens) > 0


def tokenize_with_pictures(clip: Any, prompt: str, pictures: Sequence[Tensor]) -> Mapping[str, Any]:
    """A prompt's tokens beside pictures (H, W, 3); each of several is named 'Picture 1', ... where the tokenizer's own
    template has a place for one alone."""
    side = ALONE if len(pictures) == 1 else OF_SEVERAL
    images = [_scaled(picture, side) for picture in pictures]
    tokens: Mapping[str, Any] = clip.tokenize(prompt, images=images)
    template = getattr(clip.tokenizer, "llama_template_images", "")
    if _pictures_in(tokens) < len(images) and SLOT in template:
        named = "".join(f"Picture {number}: {SLOT}" for number in range(1, len(images) + 1))
        tokens = clip.tokenize(named + prompt, images=images, llama_template=template.replace(SLOT, "", 1))
    return tokens


def _pictures_in(tokens: Mapping[str, Any]) -> int:
    return sum(isinstance(token, Mapping) and token.get("type") == "image"
               for chunks in tokens.values() for chunk in chunks for token, *_ in chunk)


def _scaled(picture: Tensor, side: int) -> Tensor:
    """(1, h, w, 3) of the area of a square."""
    height, width = picture.shape[:2]
    scale = side / math.sqrt(height * width)
    rows = picture.movedim(-1, 0)[None]
    scaled = comfy.utils.common_upscale(rows, round(width * scale), round(height * scale), "area", "disabled")
    return torch.movedim(scaled, 1, -1)
