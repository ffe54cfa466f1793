"""How is a flat shape put on the canvas? Polygons, poses, colours and two-tone patterns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

Point = tuple[float, float]
Polygon = list[Point]
Colour = tuple[int, int, int]

SUPERSAMPLING: Final = 2
"""Pictures are drawn this much larger and reduced by a box filter: anti-aliasing and exact coverage masks."""

COLOURS: Final[dict[str, Colour]] = {
    "red": (215, 30, 35),
    "orange": (245, 130, 20),
    "yellow": (250, 218, 30),
    "green": (35, 150, 60),
    "blue": (30, 80, 215),
    "purple": (125, 45, 170),
    "white": (245, 245, 245),
    "black": (30, 30, 34),
}
"""The colours that captions name."""

UNNAMED_COLOURS: Final[dict[str, Colour]] = {
    "teal": (0, 150, 150),
    "magenta": (215, 40, 140),
    "brown": (120, 70, 35),
    "lime": (165, 220, 40),
    "pink": (250, 155, 185),
    "sky": (95, 190, 245),
}
"""Colours only individuals have; no caption names them."""

ALL_COLOURS: Final = COLOURS | UNNAMED_COLOURS
CAPTION_PATTERNS: Final = ("plain", "striped", "spotted")
INDIVIDUAL_PATTERNS: Final = ("zigzag", "halves", "checks", "rings", "diagonal", "bands")


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where an object stands: object units (about -1 to 1, y down) to canvas pixels."""

    x: float
    y: float
    scale: float
    angle: float

    def place(self, polygon: Polygon) -> Polygon:
        """Object units to canvas pixels: p -> scale R(angle) p + (x, y)."""
        cos, sin = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        return [(self.x + cos * u - sin * v, self.y + sin * u + cos * v) for u, v in polygon]


def ellipse(cx: float, cy: float, rx: float, ry: float, tilt: float = 0.0, n: int = 28) -> Polygon:
    """An ellipse as a polygon of `n` corners, turned by `tilt` radians."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    turns = [2 * math.pi * i / n for i in range(n)]
    around = [(rx * math.cos(a), ry * math.sin(a)) for a in turns]
    return [(cx + cos * u - sin * v, cy + sin * u + cos * v) for u, v in around]


def box(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    """An upright rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> Polygon:
    """An upright rectangle with quarter-circle corners."""
    corners = [(x1 - radius, y0 + radius, -90), (x1 - radius, y1 - radius, 0),
               (x0 + radius, y1 - radius, 90), (x0 + radius, y0 + radius, 180)]
    points = []
    for cx, cy, start in corners:
        for step in range(5):
            a = math.radians(start + 22.5 * step)
            points.append((cx + radius * math.cos(a), cy + radius * math.sin(a)))
    return points


def ribbon(points: Polygon, width: float) -> Polygon:
    """A polyline of constant width as one polygon (normals from neighbouring points)."""
    left, right = [], []
    for i, (x, y) in enumerate(points):
        (ax, ay), (bx, by) = points[max(i - 1, 0)], points[min(i + 1, len(points) - 1)]
        length = math.hypot(bx - ax, by - ay) or 1.0
        nx, ny = -(by - ay) / length * width / 2, (bx - ax) / length * width / 2
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
    return left + right[::-1]


def arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float, n: int = 12) -> Polygon:
    """Points of an elliptic arc between two angles in degrees (open, for `ribbon`)."""
    angles = [math.radians(start + (end - start) * i / (n - 1)) for i in range(n)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (factor < 1) or lighter (factor > 1, towards white)."""
    red, green, blue = (c * factor if factor <= 1 else c + (255 - c) * (factor - 1) for c in colour)
    return round(red), round(green), round(blue)


def contrast_colour(name: str) -> Colour:
    """The colour of stripes and spots on an object of the named colour."""
    return COLOURS["black"] if name in ("white", "yellow", "orange") else COLOURS["white"]


def accent_colour(name: str) -> Colour:
    """The colour of secondary parts on an object of the named colour."""
    if name == "black":
        return (95, 95, 105)
    return shade(ALL_COLOURS[name], 0.62)


def pattern_marks(pattern: str) -> list[Polygon]:
    """The second-colour marks of a pattern in object units; every mark is at least 0.2 (8 px) wide."""
    steps = [-1.5 + 0.52 * i for i in range(7)]
    if pattern == "plain":
        return []
    if pattern == "striped":
        return [box(x, -2, x + 0.25, 2) for x in steps]
    if pattern == "spotted":
        return [ellipse(-1.3 + 0.5 * i + 0.25 * (j % 2), -1.3 + 0.42 * j, 0.15, 0.15, n=14)
                for i in range(7) for j in range(7)]
    if pattern == "zigzag":
        zigzag = [(-1.6 + 0.3 * i, 0.13 * (-1) ** i) for i in range(12)]
        return [ribbon([(x, y + level) for x, y in zigzag], 0.27) for level in steps]
    if pattern == "halves":
        return [box(-2, 0.12, 2, 2)]
    if pattern == "checks":
        return [box(-1.6 + 0.4 * i, -1.6 + 0.4 * j, -1.2 + 0.4 * i, -1.2 + 0.4 * j)
                for i in range(8) for j in range(8) if (i + j) % 2]
    if pattern == "rings":
        return [ribbon(arc(0.0, 0.1, r, r, 0, 360, 26), 0.23) for r in (0.12, 0.56, 1.0, 1.44)]
    if pattern == "diagonal":
        return [[(x - 2, -2), (x - 1.65, -2), (x + 2.35, 2), (x + 2, 2)] for x in [-3 + 0.7 * i for i in range(9)]]
    if pattern == "bands":
        return [box(-2, y, 2, y + 0.26) for y in steps]
    raise ValueError(f"pattern: got {pattern!r}, expected one of {CAPTION_PATTERNS + INDIVIDUAL_PATTERNS}")


def paint_pattern(size: int, pose: Pose, pattern: str, first: Colour, second: Colour) -> Image.Image:
    """A canvas filled with the two-tone pattern, fixed to the object's own frame."""
    image = Image.new("RGB", (size, size), first)
    draw = ImageDraw.Draw(image)
    for mark in pattern_marks(pattern):
        draw.polygon(pose.place(mark), fill=second)
    return image
