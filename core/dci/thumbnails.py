"""A contact sheet of candidates: one row of pictures per noun, with its name and score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE, GAP, LABEL = 160, 6, 22


def contact_sheet(labels: Sequence[str], pictures: Sequence[Tensor | Sequence[Tensor]]) -> Tensor:
    """(1, H, W, 3) in 0..1.

    Args:
        labels: one per row.
        pictures: for each row its pictures (h, w, 3) in 0..1, of any size, or none.
    """
    columns = max(1, *(len(row) for row in pictures)) if pictures else 1
    row_height = SIDE + LABEL if any(len(row) for row in pictures) else LABEL
    size = (max(2 * SIDE, columns * (SIDE + GAP) + GAP), len(labels) * (row_height + GAP) + GAP)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for number, (label, row) in enumerate(zip(labels, pictures, strict=True)):
        top = GAP + number * (row_height + GAP)
        draw.text((GAP, top), label, fill="black", font=ImageFont.load_default(14))
        for column, picture in enumerate(row):
            image.paste(_thumbnail(picture), (GAP + column * (SIDE + GAP), top + LABEL))
    return torch.from_numpy(numpy.asarray(image).copy()).float()[None] / 255


def _thumbnail(picture: Tensor) -> Image.Image:
    """A picture (h, w, 3) within a square of `SIDE` pixels."""
    whole = Image.fromarray((picture.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    scale = SIDE / max(whole.size)
    return whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.LANCZOS)
