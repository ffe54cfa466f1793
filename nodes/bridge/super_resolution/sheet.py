"""What fine-tuning an upscaler changed: photos' centres made small and upscaled again, beside the photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from ....core.data.low_res_pairs import SCALE, cut, low_res
from ..photos.latents import square_pixels
from .training import UpscalerRequest
from .upscaler import upscale

HEADER = 16
"""Pixels of the line that names the columns."""
LEAST_TILE = 192
"""Smaller pictures are shown enlarged, pixel by pixel."""


@dataclass(frozen=True, kw_only=True)
class SheetSettings:
    """How the sheet is sampled.

    Attributes:
        photos: the first so many photos are shown; 0 = no sheet.
        steps: sampling steps, by Euler.
        cfg: guidance scale.
    """

    photos: int = 2
    steps: int = 20
    cfg: float = 4.0
    seed: int = 0


def compare_upscalers(request: UpscalerRequest, trained: Any | None,
                      settings: SheetSettings) -> tuple[Tensor, tuple[str, ...]]:
    """A sheet (1, H, W, 3), a row for each photo, and a line of text for each.

    Args:
        trained: the fine-tuned upscaler; None leaves its column out.
    """
    columns = {"as it is": request.model} | ({} if trained is None else {"personalized": trained})
    rows, lines = [], []
    photos = [(subject, photo) for subject in request.subjects for photo in subject.photos]
    for number, (subject, photo) in enumerate(photos[:settings.photos], 1):
        high, low = _centre(photo.pixels, request)
        made = {name: upscale(model, request.clip, request.vae, low[None], prompt=subject.caption,
                              level=request.pairs.level, steps=settings.steps, cfg=settings.cfg,
                              seed=settings.seed)[0].cpu() for name, model in columns.items()}
        rows.append(torch.cat([_enlarged(low), *made.values(), high], dim=1))
        figures = (f"{psnr(picture, high):.1f} dB {name}" for name, picture in made.items())
        lines.append(f"photo {number}, small and upscaled again: {', '.join(figures)}")
    if not rows:
        return torch.zeros(1, HEADER, LEAST_TILE, 3), ()
    return _titled(torch.cat(rows), ["small", *columns, "photo"])[None], tuple(lines)


def psnr(picture: Tensor, truth: Tensor) -> float:
    """-10 log10 of the mean squared error of pictures in 0..1, in dB."""
    return float(-10 * torch.log10((picture - truth).square().mean().clamp(min=1e-10)))


def _centre(pixels: Tensor, request: UpscalerRequest) -> tuple[Tensor, Tensor]:
    """The middle crop of a photo: (crop, crop, 3) in 0..1 and (3, crop / 4, crop / 4) in -1..1."""
    whole = square_pixels(pixels, request.config.resolution).cpu()
    view = cut(functional.pixel_unshuffle(whole.movedim(-1, 0), SCALE), low_res(whole), request.pairs.crop // SCALE)[0]
    assert view.concat is not None
    return functional.pixel_shuffle(view.latents, SCALE).movedim(0, -1), view.concat


def _enlarged(low: Tensor) -> Tensor:
    """(3, h, w) in -1..1 to (4 h, 4 w, 3) in 0..1, pixel by pixel."""
    large = low.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2)
    return large.movedim(0, -1) / 2 + 0.5


def _titled(sheet: Tensor, titles: list[str]) -> Tensor:
    """The sheet, enlarged where it is small, below a line with its columns' names."""
    times = max(1, -(-LEAST_TILE * len(titles) // sheet.shape[1]))
    large = sheet.repeat_interleave(times, 0).repeat_interleave(times, 1)
    image = Image.new("RGB", (large.shape[1], HEADER), "white")
    draw, width = ImageDraw.Draw(image), large.shape[1] // len(titles)
    for number, title in enumerate(titles):
        draw.text((number * width + 4, 2), title, fill="black")
    header = torch.from_numpy(numpy.asarray(image).copy()).float() / 255
    return torch.cat([header, large])
