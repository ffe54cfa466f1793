"""How is a scene drawn, and which pixels belong to which thing? Polygons at twice the size, and a map of labels."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from .config import SIZE
from .looks import PALETTE
from .places import BACKDROPS
from .scenes import Scene, Thing
from .styles import apply_style
from .world_paint import Colour, Polygon, accent_colour, box, contrast_colour, pattern_marks, shade
from .world_shapes import SHAPES, Shape, odd_part

SUPERSAMPLING: Final = 2
ROLE_COLOURS: Final[dict[str, Colour]] = {
    "dark": (24, 22, 26), "light": (250, 246, 214), "glass": (186, 222, 240), "cream": (244, 226, 196),
}
GOLD: Final[Colour] = (250, 200, 40)
POLE: Final[Colour] = (90, 70, 50)
NECKS: Final[dict[str, tuple[float, float, float]]] = {
    "dog": (-0.06, 0.56, 0.3), "cat": (0.0, 0.64, 0.4), "teapot": (0.0, 0.42, 0.5), "backpack": (0.0, 0.42, 0.6),
    "car": (0.0, 0.34, 0.5), "robot": (0.0, 0.62, 0.44), "fish": (-0.3, 0.3, 0.34), "house": (0.0, 0.85, 0.6),
    "boot": (0.0, 0.5, 0.4), "mushroom": (0.0, 0.72, 0.32),
}
"""Where a scarf lies, from the point where a hat stands: right, down, half width."""


class Brush:
    """Paints polygons of one thing onto picture and label map at once."""

    def __init__(self, picture: Image.Image, labels: Image.Image, label: int, thing: Thing) -> None:
        size, spot = picture.width, thing.spot
        self.picture, self.labels, self.label = picture, labels, label
        self.ink, self.cover = ImageDraw.Draw(picture), ImageDraw.Draw(labels)
        cos, sin = size * spot.scale * math.cos(spot.angle), size * spot.scale * math.sin(spot.angle)
        self.turn = np.array([[cos, sin], [-sin, cos]])
        self.middle = np.array([spot.x * size, spot.y * size])

    def place(self, outline: Polygon | np.ndarray) -> list[float]:
        """Object units to canvas pixels: p -> scale R(angle) p + middle, as x0, y0, x1, y1, ..."""
        return (np.asarray(outline) @ self.turn + self.middle).ravel().tolist()

    def fill(self, colour: Colour, outline: Polygon) -> None:
        """One polygon in one colour."""
        corners = self.place(outline)
        self.ink.polygon(corners, fill=colour)
        self.cover.polygon(corners, fill=self.label)

    def fill_patterned(self, outlines: list[Polygon], pattern: str, first: Colour, second: Colour) -> None:
        """The outlines' union in a two-tone pattern that is fixed to the thing's own frame."""
        if pattern == "plain":
            for outline in outlines:
                self.fill(first, outline)
            return
        placed = [self.place(outline) for outline in outlines]
        flat = np.concatenate([np.reshape(p, (-1, 2)) for p in placed])
        x0, y0 = np.floor(flat.min(0)).astype(int) - 1
        x1, y1 = np.ceil(flat.max(0)).astype(int) + 2
        body = Image.new("L", (int(x1 - x0), int(y1 - y0)))
        cloth = Image.new("RGB", body.size, first)
        shape, ink, corner = ImageDraw.Draw(body), ImageDraw.Draw(cloth), np.array([x0, y0])
        for corners in placed:
            shape.polygon((np.reshape(corners, (-1, 2)) - corner).ravel().tolist(), fill=255)
        marks, ends = _marks(pattern)
        spread = (marks @ self.turn + (self.middle - corner)).reshape(-1)
        for start, end in ends:
            ink.polygon(spread[2 * start:2 * end].tolist(), fill=second)
        self.picture.paste(cloth, (int(x0), int(y0)), body)
        self.labels.paste(self.label, (int(x0), int(y0)), body)


@cache
def _marks(pattern: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """All corners of a pattern's marks, (N, 2), and where each mark begins and ends."""
    marks, ends, start = [], [], 0
    for mark in pattern_marks(pattern):
        marks.append(np.array(mark))
        ends.append((start, start + len(mark)))
        start += len(mark)
    return np.concatenate(marks), ends


def render(scene: Scene, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene.

    Returns:
        The picture, (size, size, 3) uint8, and the label map at twice the size, (2 size, 2 size) uint8: 0 is the
        background (shadows too), k + 1 where thing k of `scene.things` is seen (its accessory included).
    """
    rng, full = random.Random(scene.seed ^ 0x5EED), size * SUPERSAMPLING
    picture, labels = BACKDROPS[scene.context](full, rng), Image.new("L", (full, full))
    for i in scene.depth_order():
        draw_thing(picture, labels, i + 1, scene.things[i], has_shadow=scene.relation != "on top of" or i == 1)
    label_map = np.asarray(labels)
    if scene.style == "photo":
        return np.asarray(picture.reduce(SUPERSAMPLING)), label_map
    return apply_style(scene.style, picture, label_map, rng), label_map


def coverage(label_map: np.ndarray, label: int, size: int = SIZE) -> np.ndarray:
    """How much of each pixel (or cell, for a smaller `size`) shows a thing, (size, size) in [0, 1]; exact."""
    step = label_map.shape[0] // size
    return (label_map == label).reshape(size, step, size, step).mean((1, 3), dtype=np.float32)


def draw_thing(picture: Image.Image, labels: Image.Image, label: int, thing: Thing, has_shadow: bool) -> None:
    """Paints shadow, thing and accessory; the shadow belongs to the background."""
    look, spot, size = thing.look, thing.spot, picture.width
    shape = SHAPES[look.noun](*look.numbers)
    first = tuple(min(255, max(0, c + j)) for c, j in zip(PALETTE[look.colour], thing.jitter, strict=True))
    second = PALETTE[look.second] if look.second else contrast_colour(look.colour)
    roles = ROLE_COLOURS | {"accent": shade(second, 0.8) if look.second else accent_colour(look.colour)}
    if has_shadow:
        _shadow(picture, spot.x * size, spot.feet * size, spot.scale * size)
    brush = Brush(picture, labels, label, thing)
    if thing.accessory == "flag":
        _flag(brush, shape, PALETTE[thing.accessory_colour])
    for outline in odd_part(look.part, shape):
        brush.fill(PALETTE[look.part_colour], outline)
    for role, outline in shape.behind:
        brush.fill(roles[role], outline)
    brush.fill_patterned(shape.body, look.pattern, first, second)
    for role, outline in shape.front:
        brush.fill(roles[role], outline)
    if thing.accessory in _WORN:
        _WORN[thing.accessory](brush, shape, look.noun, PALETTE[thing.accessory_colour])


def _shadow(picture: Image.Image, x: float, feet: float, scale: float) -> None:
    """A flat dark ellipse under the feet, 27 % strong."""
    x0, y0 = int(x - 0.9 * scale), int(feet - 0.08 * scale)
    mask = _ellipse_mask(max(2, int(1.8 * scale)), max(2, int(0.2 * scale)))
    picture.paste((0, 0, 0), (x0, y0), mask)


@cache
def _ellipse_mask(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse([0, 0, width - 1, height - 1], fill=70)
    return mask


def _hat(brush: Brush, shape: Shape, noun: str, colour: Colour) -> None:
    """A top hat: brim and crown."""
    x, y = shape.top
    brush.fill(colour, box(x - 0.42, y - 0.08, x + 0.42, y + 0.1))
    brush.fill(colour, box(x - 0.25, y - 0.5, x + 0.25, y))


def _crown(brush: Brush, shape: Shape, noun: str, colour: Colour) -> None:
    """Three golden points."""
    x, y = shape.top
    brush.fill(GOLD, [(x - 0.36, y + 0.1), (x - 0.4, y - 0.36), (x - 0.18, y - 0.12), (x, y - 0.42),
                      (x + 0.18, y - 0.12), (x + 0.4, y - 0.36), (x + 0.36, y + 0.1)])


def _scarf(brush: Brush, shape: Shape, noun: str, colour: Colour) -> None:
    """A band around the neck with one end hanging."""
    right, down, half = NECKS[noun]
    x, y = shape.top[0] + right, shape.top[1] + down
    brush.fill(colour, box(x - half, y - 0.11, x + half, y + 0.11))
    brush.fill(colour, box(x + 0.3 * half, y, x + 0.3 * half + 0.22, y + 0.5))


def _flag(brush: Brush, shape: Shape, colour: Colour) -> None:
    """A pole behind the thing, with a flag above it."""
    (x, y), _ = shape.back
    y = min(y, shape.top[1])
    brush.fill(POLE, box(x - 0.05, y - 0.65, x + 0.05, y + 0.9))
    brush.fill(colour, box(x - 0.75, y - 0.65, x - 0.04, y - 0.2))


_WORN: Final = {"hat": _hat, "crown": _crown, "scarf": _scarf}
