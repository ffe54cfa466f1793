"""The sheet to look at: the photos first, then every prompt's pictures with the prompt written under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .figures import Made
from .prompts import EvaluationPrompt, kinds_of

WIDTH, MARGIN, GAP, SEAM = 1280, 24, 16, 2
HEADING_SIZE, CAPTION_SIZE, LINE = 20, 14, 18
MOST_SHOWN = 4
"""Pictures of one prompt on the sheet; the IMAGE batch has all."""
SINGLE, SEVERAL = 192, 144
"""Side in pixels of a picture that is alone under its prompt, and of one among several."""
INK, SOFT, RULE = "#111111", "#555555", "#bbbbbb"


@dataclass(frozen=True)
class Cell:
    """Pictures side by side above one text."""

    pictures: Sequence[Image.Image]
    text: str
    side: int

    @property
    def width(self) -> int:
        """In pixels."""
        return len(self.pictures) * (self.side + SEAM) - SEAM


@dataclass(frozen=True)
class Section:
    """Cells below a heading."""

    heading: str
    cells: Sequence[Cell]


def render_sheet(label: str, photos: Sequence[Tensor], made: Made, prompts: Sequence[EvaluationPrompt],
               class_prompt: str) -> Tensor:
    """(1, H, W, 3) in 0..1, black on white.

    Args:
        label: whose pictures these are.
        photos: square, (H, W, 3).
        class_prompt: that of `made.classes`.
    """
    sections = [Section("the subject's photos", [Cell([to_image(photo)], "", SEVERAL) for photo in photos])]
    shown = made.prompted[:, :MOST_SHOWN].movedim(2, -1)
    side = SINGLE if shown.shape[1] == 1 else SEVERAL
    for kind in kinds_of(prompts):
        cells = [Cell([to_image(picture) for picture in pictures], prompt.text, side)
                 for pictures, prompt in zip(shown, prompts, strict=True) if prompt.kind == kind]
        sections.append(Section(f"{label}: {kind}", cells))
    classes = {f"{class_prompt}, {label}": made.classes, f"{class_prompt}, reference model": made.before}
    rows = [Cell([to_image(picture) for picture in pictures[:MOST_SHOWN].movedim(1, -1)], text, SEVERAL)
            for text, pictures in classes.items() if pictures is not None and len(pictures)]
    if rows:
        sections.append(Section("the class, which should not drift", rows))
    pixels = numpy.asarray(_render(sections)).copy()
    return torch.from_numpy(pixels).float()[None] / 255


def _render(sections: Sequence[Section]) -> Image.Image:
    """The sections one below the other, on as much paper as they need."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    rows = [(section.heading if number == 0 else "", row) for section in sections
            for number, row in enumerate(_rows(section.cells))]
    heights = [_height(pen, heading, row) for heading, row in rows]
    paper = Image.new("RGB", (WIDTH, sum(heights) + 2 * MARGIN), "white")
    top = MARGIN
    for (heading, row), height in zip(rows, heights, strict=True):
        _render_row(paper, top, heading, row)
        top += height
    return paper


def _rows(cells: Sequence[Cell]) -> list[list[Cell]]:
    """As many cells beside each other as fit."""
    rows: list[list[Cell]] = [[]]
    for cell in cells:
        used = sum(other.width + GAP for other in rows[-1])
        if rows[-1] and used + cell.width > WIDTH - 2 * MARGIN:
            rows.append([])
        rows[-1].append(cell)
    return rows


def _height(pen: ImageDraw.ImageDraw, heading: str, row: Sequence[Cell]) -> int:
    lines = max(len(wrap(pen, cell.text, cell.width)) for cell in row)
    return (HEADING_SIZE + 2 * GAP if heading else 0) + max(cell.side for cell in row) + lines * LINE + GAP


def _render_row(paper: Image.Image, top: int, heading: str, row: Sequence[Cell]) -> None:
    pen = ImageDraw.Draw(paper)
    if heading:
        pen.line([(MARGIN, top), (WIDTH - MARGIN, top)], fill=RULE)
        pen.text((MARGIN, top + GAP // 2), heading, fill=INK, font=font_of(HEADING_SIZE))
        top += HEADING_SIZE + 2 * GAP
    left = MARGIN
    for cell in row:
        for number, picture in enumerate(cell.pictures):
            tile = picture.resize((cell.side, cell.side), Image.Resampling.LANCZOS)
            paper.paste(tile, (left + number * (cell.side + SEAM), top))
        for number, line in enumerate(wrap(pen, cell.text, cell.width)):
            pen.text((left, top + cell.side + 3 + number * LINE), line, fill=SOFT, font=font_of(CAPTION_SIZE))
        left += cell.width + GAP


def wrap(pen: ImageDraw.ImageDraw, text: str, width: int) -> list[str]:
    """A caption's lines, none wider than `width` pixels unless one word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and pen.textlength(longer, font=font_of(CAPTION_SIZE)) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def to_image(picture: Tensor) -> Image.Image:
    """A picture (H, W, 3) in 0..1."""
    return Image.fromarray((picture.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of sheets, in pixels."""
    return ImageFont.load_default(size)
