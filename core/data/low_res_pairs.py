"""(low-res, high-res) pairs of a photo, cut into windows that a fine-tuning step can hold (DreamBooth, 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .examples import View

SCALE = 4
"""How many times an upscaler enlarges; its latents have the low-res picture's own size."""


def low_res(pixels: Tensor) -> Tensor:
    """A photo (H, W, 3) in 0..1 to its low-res picture (3, H/4, W/4) in -1..1, bicubic with antialiasing."""
    height, width = pixels.shape[:2]
    rows = pixels.float().movedim(-1, 0)[None]
    small = functional.interpolate(rows, size=(height // SCALE, width // SCALE), mode="bicubic", antialias=True)
    return small[0].clamp(0, 1) * 2 - 1


def window_starts(side: int, window: int) -> list[int]:
    """Where windows begin along a side, half a window apart and the last one at the end."""
    return sorted({*range(0, side - window, max(1, window // 2)), side - window})


def cut(latents: Tensor, low: Tensor, window: int) -> tuple[View, ...]:
    """The same windows of latents (C, h, w) and low-res picture (3, h, w); the one nearest to the centre first."""
    height, width = latents.shape[-2:]
    middle = torch.tensor([height - window, width - window]) / 2
    places = [(y, x) for y in window_starts(height, window) for x in window_starts(width, window)]
    places.sort(key=lambda place: float((torch.tensor(place) - middle).square().sum()))
    return tuple(View(latents=latents[:, y:y + window, x:x + window], concat=low[:, y:y + window, x:x + window])
                 for y, x in places)
