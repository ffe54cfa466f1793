"""A grid to look at: for every prompt a block, whose rows and columns are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import InputError
from .sheet import CAPTION_SIZE, GAP, INK, LINE, MARGIN, RULE, SEAM, SOFT, font_of, to_image, wrap

LARGEST_TILE, SMALLEST_TILE = 320, 128
"""Pixels of a picture's longer side on the sheet."""
LABEL_WIDTH = 110
LEAST_WIDTH = 480
"""Of the paper, so that a prompt above one narrow picture can be read."""


@dataclass(frozen=True)
class Block:
    """One prompt's pictures.

    Attributes:
        heading: the prompt.
        pictures: (rows, columns, H, W, 3) in 0..1.
    """

    heading: str
    pictures: Tensor


def render_grid(blocks: Sequence[Block], rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    """(1, H, W, 3) in 0..1, black on white: the blocks one below the other."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    tile = _tile(blocks[0].pictures)
    width = max(LEAST_WIDTH, 2 * MARGIN + LABEL_WIDTH + len(columns) * (tile[0] + SEAM) - SEAM)
    lines = [wrap(pen, block.heading, width - 2 * MARGIN) for block in blocks]
    heights = [GAP + len(heading) * LINE + GAP + LINE + len(rows) * (tile[1] + SEAM) + GAP for heading in lines]
    paper = Image.new("RGB", (width, sum(heights) + 2 * MARGIN), "white")
    top = MARGIN
    for block, heading, height in zip(blocks, lines, heights, strict=True):
        _draw(paper, top, heading, block.pictures, tile, rows, columns)
        top += height
    return torch.from_numpy(numpy.asarray(paper).copy()).float()[None] / 255


def _tile(pictures: Tensor) -> tuple[int, int]:
    """Width and height of a picture on the sheet."""
    height, width = pictures.shape[2:4]
    longer = max(height, width)
    scale = min(max(longer, SMALLEST_TILE), LARGEST_TILE) / longer
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draw(paper: Image.Image, top: int, heading: Sequence[str], pictures: Tensor, tile: tuple[int, int],
          rows: Sequence[str], columns: Sequence[str]) -> None:
    pen = ImageDraw.Draw(paper)
    pen.line([(MARGIN, top), (paper.width - MARGIN, top)], fill=RULE)
    top += GAP
    for number, line in enumerate(heading):
        pen.text((MARGIN, top + number * LINE), line, fill=INK, font=font_of(CAPTION_SIZE))
    top += len(heading) * LINE + GAP
    lefts = [MARGIN + LABEL_WIDTH + number * (tile[0] + SEAM) for number in range(len(columns))]
    for left, column in zip(lefts, columns, strict=True):
        pen.text((left, top), column, fill=SOFT, font=font_of(CAPTION_SIZE))
    top += LINE
    for row, of_row in zip(rows, pictures, strict=True):
        pen.text((MARGIN, top + (tile[1] - CAPTION_SIZE) // 2), row, fill=SOFT, font=font_of(CAPTION_SIZE))
        for left, picture in zip(lefts, of_row, strict=True):
            paper.paste(to_image(picture).resize(tile, Image.Resampling.LANCZOS), (left, top))
        top += tile[1] + SEAM


def read_numbers(text: str, name: str, lowest: float, highest: float) -> list[float]:
    """The numbers of a text, separated by commas or spaces, each once and in their order.

    Raises:
        InputError: anything else, or a number out of range.
    """
    words = text.replace(",", " ").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if not numbers or not all(lowest <= number <= highest for number in numbers):
        raise InputError(name, repr(text), f"numbers of {lowest:g} to {highest:g}, separated by commas",
                         "Write for example 0.6, 0.8, 1.")
    return list(dict.fromkeys(numbers))


def read_steps(text: str, kept: Sequence[int]) -> list[int]:
    """The steps that a text asks for: `all` that were kept, or some of them.

    Raises:
        InputError: one that was not kept.
    """
    known = ", ".join(map(str, kept))
    fix = "Write all, or some of them. More are kept with keep_every of the training options."
    if text.strip().lower() == "all":
        return list(kept)
    words = text.replace(",", " ").split()
    asked = [int(word) for word in words if word.isdecimal() and len(word) < 13]
    if not words or len(asked) != len(words) or not set(asked) <= set(kept):
        raise InputError("steps", repr(text), f"all, or steps that were kept: {known}", fix)
    return list(dict.fromkeys(asked))
