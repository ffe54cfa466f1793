"""Sample sheets: chosen prompts beside each other, a row per method, labelled."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .bench import PROMPTS
from .cell_files import cell_path
from .methods import METHODS, Method
from .pictures import read_pictures

CHOSEN = (0, 5, 8, 10, 12, 15, 17, 21)
"""Places in `bench.PROMPTS`: three of places, two with a hat, two of colours, one of both."""
PLAIN, CLASSES = 2, 1
SIZE, LABEL, HEADER, PHOTOS = 80, 150, 34, 5
LARGEST = 280_000
"""Bytes of a sheet."""


def sample_sheet(folder: Path, methods: Sequence[str], subject: int, seed: int = 0) -> bytes | None:
    """A JPEG of every method whose pictures of the subject are in the folder; None without any."""
    files = {name: cell_path(folder, name, subject, seed, ".npz") for name in methods}
    rows = [(METHODS[name], path) for name, path in files.items() if name in METHODS and path.exists()]
    if not rows:
        return None
    width = LABEL + SIZE * (PLAIN + len(CHOSEN) + CLASSES)
    sheet = Image.new("RGB", (width, SIZE * (len(rows) + 1) + HEADER), "white")
    photos = read_pictures(rows[0][1])[0][:PHOTOS]
    write_row(sheet, "photos, as the autoencoder gives them back", 0, photos)
    for column, text in enumerate(headers()):
        write_text(sheet, text, (LABEL + column * SIZE + 3, SIZE + 2), SIZE - 4)
    for row, (method, path) in enumerate(rows):
        write_row(sheet, label_of(method), SIZE * (row + 1) + HEADER, chosen_of(path))
    return as_jpeg(sheet)


def headers() -> list[str]:
    """What each column shows."""
    return ["a V noun"] * PLAIN + [PROMPTS[place].text("V", "noun") for place in CHOSEN] + ["a noun"] * CLASSES


def chosen_of(path: Path) -> Tensor:
    """A cell's pictures in the sheet's order, (N, 3, H, W)."""
    last = read_pictures(path)[2][-1]
    return torch.cat([last.plain[:PLAIN], last.prompted[list(CHOSEN)], last.classes[:CLASSES]])


def label_of(method: Method) -> str:
    """As the row is called."""
    return f"{method.title}, {method.steps} steps"


def write_row(sheet: Image.Image, label: str, top: int, pictures: Tensor) -> None:
    """A label and its pictures."""
    write_text(sheet, label, (4, top + 4), LABEL - 8)
    for column, picture in enumerate((pictures.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1)):
        tile = Image.fromarray(picture.numpy()).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (LABEL + column * SIZE, top))


def write_text(sheet: Image.Image, text: str, place: tuple[int, int], width: int) -> None:
    """Text in lines no wider than so many pixels."""
    font, lines = ImageFont.load_default(9), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    ImageDraw.Draw(sheet).multiline_text(place, "\n".join(lines), fill="black", font=font, spacing=1)


def as_jpeg(sheet: Image.Image) -> bytes:
    """The best quality that stays below `LARGEST`."""
    for quality in (90, 80, 70, 60, 45):
        out = io.BytesIO()
        sheet.save(out, format="JPEG", quality=quality)
        if out.tell() < LARGEST:
            break
    return out.getvalue()
