"""Sheets of DCI's masks as pictures: labelled tiles, legible in grey (Jin et al., ECCV 2024, fig. 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .observation import KINDS, Kind, MaskRecorder

Layout = Literal["scales", "steps", "layers"]
TILE, GAP, LEFT, HEAD, CAPTION = 128, 6, 120, 44, 16
TITLES: dict[Kind, str] = {"concept": "concept map m^c", "auxiliary": "auxiliary map m^a", "mask": "mask M^c",
                           "auxiliary mask": "mask M^a"}
MOST_STEPS = 10
"""Columns of the sheet of steps; more steps are thinned evenly."""
# Dark blue over red to pale yellow: brightness rises evenly, so that the order survives grey printing.
_STOPS = ((0.0, (4, 5, 28)), (0.25, (80, 18, 123)), (0.5, (182, 54, 121)), (0.75, (251, 136, 97)),
          (1.0, (252, 253, 191)))


@dataclass(frozen=True)
class Tile:
    """One map (h, w), drawn stretched over `low`..`high`, or over its own range where they are None."""

    values: Tensor | None
    low: float | None = None
    high: float | None = None


def render_sheets(recorder: MaskRecorder, layout: Layout, kind: Kind = "mask") -> Tensor:
    """One sheet per picture of the batch, (B, H, W, 3) in 0..1.

    Args:
        layout: rows are `scales` (columns: the four kinds of maps), `layers` (likewise), or scales again with steps as
            columns (`steps`).
        kind: which map the sheet of steps shows.
    """
    return torch.stack([_SHEETS[layout](recorder, row, kind) for row in range(recorder.pictures)])


def render_grid(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Tile]]]) -> Tensor:
    """A table of tiles with labels, (H, W, 3) in 0..1; each tile says its range."""
    width = LEFT + len(columns) * (TILE + GAP) + GAP
    height = HEAD + len(rows) * (TILE + CAPTION + GAP) + GAP
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((GAP, 4), title, fill="black", font=_font(14))
    for number, column in enumerate(columns):
        draw.text((LEFT + number * (TILE + GAP), HEAD - 18), column, fill="black", font=_font(12))
    for line, (label, tiles) in enumerate(rows):
        top = HEAD + line * (TILE + CAPTION + GAP)
        draw.multiline_text((GAP, top + TILE // 3), label, fill="black", font=_font(12))
        for number, tile in enumerate(tiles):
            _render_tile(image, draw, (LEFT + number * (TILE + GAP), top), tile)
    return torch.from_numpy(numpy.asarray(image).copy()).float() / 255


def colour(values: Tensor) -> Tensor:
    """Values (h, w) in 0..1 to colours (h, w, 3) in 0..1."""
    points = [stop for stop, _ in _STOPS]
    channels = [numpy.interp(values.numpy(), points, [rgb[channel] / 255 for _, rgb in _STOPS]) for channel in range(3)]
    return torch.from_numpy(numpy.stack(channels, -1)).float()


def blend(picture: Image.Image, mask: Tensor, strength: float = 0.5) -> Image.Image:
    """A picture tinted by a mask (h, w) in 0..1: what the mask leaves out is darkened, its edge stays readable."""
    scaled = Image.fromarray((mask.clamp(0, 1) * 255).round().to(torch.uint8).numpy()).resize(picture.size)
    dark = Image.blend(picture.convert("RGB"), Image.new("RGB", picture.size, _STOPS[1][1]), strength)
    return Image.composite(picture.convert("RGB"), dark, scaled)


def _render_tile(image: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], tile: Tile) -> None:
    left, top = corner
    if tile.values is None:
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline="silver")
        return
    low = float(tile.values.min()) if tile.low is None else tile.low
    high = float(tile.values.max()) if tile.high is None else tile.high
    scaled = ((tile.values - low) / max(high - low, 1e-12)).clamp(0, 1)
    pixels = (colour(scaled) * 255).round().to(torch.uint8).numpy()
    height, width = tile.values.shape
    side = TILE / max(height, width)
    drawn = Image.fromarray(pixels).resize((round(width * side), round(height * side)), Image.Resampling.NEAREST)
    image.paste(drawn, corner)
    draw.text((left, top + TILE + 1), f"{float(tile.values.min()):.3f} .. {float(tile.values.max()):.3f}",
              fill="dimgray", font=_font(11))


def _all_kinds(read: Callable[[Kind], Tensor], row: int) -> list[Tile]:
    """The maps of one picture; masks on their full range, because their values mean the same everywhere."""
    return [Tile(read(kind)[row], 0.0, 1.0) if kind.endswith("mask") else Tile(read(kind)[row]) for kind in KINDS]


def _scale_sheet(recorder: MaskRecorder, row: int, kind: Kind) -> Tensor:
    rows = [(_size(grid), _all_kinds(lambda each, grid=grid: recorder.at_scale(grid, each), row))  # type: ignore[misc]
            for grid in recorder.grids]
    return render_grid("DCI: mean over layers and steps", [TITLES[each] for each in KINDS], rows)


def _layer_sheet(recorder: MaskRecorder, row: int, kind: Kind) -> Tensor:
    rows = []
    for layer in recorder.layers:
        tiles = _all_kinds(lambda each, layer=layer: recorder.at_layer(layer, each), row)  # type: ignore[misc]
        rows.append((f"{layer}\n{_size(recorder.grid(layer))}", tiles))
    return render_grid("DCI: mean over steps", [TITLES[each] for each in KINDS], rows)


def _step_sheet(recorder: MaskRecorder, row: int, kind: Kind) -> Tensor:
    sigmas = thin(recorder.sigmas, MOST_STEPS)
    limits = (0.0, 1.0) if kind.endswith("mask") else (None, None)
    rows = []
    for grid in recorder.grids:
        found = [recorder.at_step(grid, sigma, kind) for sigma in sigmas]
        rows.append((_size(grid), [Tile(None if maps is None else maps[row], *limits) for maps in found]))
    return render_grid(f"DCI: {TITLES[kind]}, mean over layers", [f"sigma {sigma:.3g}" for sigma in sigmas], rows)


_SHEETS: dict[Layout, Callable[[MaskRecorder, int, Kind], Tensor]] = {
    "scales": _scale_sheet, "steps": _step_sheet, "layers": _layer_sheet}


def thin(values: Sequence[float], most: int) -> list[float]:
    """At most `most` of the values, spread evenly, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]


def _size(grid: tuple[int, int]) -> str:
    return f"{grid[1]} x {grid[0]}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
