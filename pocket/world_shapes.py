"""What does each class look like? Silhouettes of ten classes from three numbers each.

Object units: about -1 to 1, x to the right, y down, feet near y = 0.9. Every function takes the three shape
numbers in [0, 1] and returns a `Shape`. Objects are never mirrored: a dog always looks to the right, so that a
weak model need not learn both (mirrored training made two-headed dogs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .world_paint import Point, Polygon, arc, box, ellipse, ribbon, rounded

Part = tuple[str, Polygon]
"""Role ('accent', 'dark', 'light', 'glass', 'cream') and outline."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Outlines of an object, back to front, and the points where accessories sit."""

    behind: list[Part]
    body: list[Polygon]
    front: list[Part]
    top: Point
    """Where a hat or a horn stands."""
    back: tuple[Point, Point]
    """The line along which spikes grow, left to right."""
    middle: Point
    """Where wings begin."""


def dog(a: float, b: float, c: float) -> Shape:
    """Side view; a: body length, b: leg length, c: ear length."""
    rear, top = -0.62 - 0.22 * a, 0.12 - 0.2 * b
    legs = [box(x, 0.3, x + 0.21, 0.9) for x in (rear + 0.02, rear + 0.3, 0.12, 0.4)]
    head_y = top - 0.45
    body = [rounded(rear, top - 0.12, 0.66, 0.45, 0.18), *legs,
            ellipse(0.62, head_y, 0.34, 0.31), ellipse(0.92, head_y + 0.1, 0.24, 0.17),
            box(0.36, head_y, 0.72, top + 0.1),
            [(rear + 0.2, top + 0.12), (rear - 0.02, top + 0.1), (rear - 0.22, top - 0.5), (rear - 0.02, top - 0.5)]]
    front = [("accent", ellipse(0.42, head_y + 0.12, 0.13, 0.24 + 0.16 * c)),
             ("dark", ellipse(1.1, head_y + 0.04, 0.1, 0.1, n=14)),
             ("dark", ellipse(0.72, head_y - 0.08, 0.08, 0.09, n=14))]
    return Shape(behind=[], body=body, front=front, top=(0.62, head_y - 0.26),
                 back=((rear + 0.1, top - 0.1), (0.3, top - 0.1)), middle=(-0.1, top + 0.1))


def cat(a: float, b: float, c: float) -> Shape:
    """Sitting, from the front; a: head size, b: ear height, c: tail length."""
    r, tip = 0.42 + 0.1 * a, -0.98 - 0.2 * b
    tail = ribbon([(0.2, 0.8), (0.62, 0.78), (0.88, 0.55), (0.92, 0.3), (0.86, 0.12 - 0.4 * c)], 0.2)
    ears = [[(side * r, -0.45), (side * r * 0.95, tip), (side * 0.06, -0.72)] for side in (-1, 1)]
    body = [tail, ellipse(0, 0.42, 0.5, 0.5), ellipse(0, -0.38, r, 0.4), *ears]
    front = [("cream", ellipse(0, 0.5, 0.2, 0.26)), ("cream", ellipse(0, -0.2, 0.19, 0.13)),
             ("dark", ellipse(-0.2, -0.45, 0.09, 0.11, n=14)), ("dark", ellipse(0.2, -0.45, 0.09, 0.11, n=14)),
             ("dark", ellipse(0, -0.25, 0.08, 0.06, n=12))]
    return Shape(behind=[], body=body, front=front, top=(0, -0.72), back=((-0.4, -0.6), (0.4, -0.6)),
                 middle=(0, 0.25))


def teapot(a: float, b: float, c: float) -> Shape:
    """a: belly width, b: spout height, c: handle size."""
    w, tip, h = 0.58 + 0.14 * a, -0.05 - 0.4 * b, 0.26 + 0.12 * c
    behind = [("accent", ribbon(arc(-w - 0.05, 0.2, h, h + 0.06, 60, 300), 0.17))]
    spout = [(w - 0.2, 0.15), (w + 0.3, tip), (w + 0.55, tip), (w - 0.1, 0.65)]
    body = [ellipse(0, 0.27, w, 0.55), spout]
    front = [("accent", ellipse(0, -0.28, 0.42, 0.15)), ("accent", ellipse(0, -0.5, 0.15, 0.14)),
             ("accent", box(-0.36, 0.76, 0.36, 0.9))]
    return Shape(behind=behind, body=body, front=front, top=(0, -0.5), back=((-0.5, -0.2), (0.5, -0.2)),
                 middle=(0, 0.1))


def backpack(a: float, b: float, c: float) -> Shape:
    """a: width, b: pocket height, c: side pocket size."""
    w, pocket, side = 0.5 + 0.14 * a, 0.3 - 0.2 * b, 0.14 + 0.12 * c
    behind = [("accent", ribbon(arc(0, -0.78, 0.2, 0.24, 180, 360), 0.13)),
              ("accent", ellipse(-w, 0.5, side, 0.3)), ("accent", ellipse(w, 0.5, side, 0.3))]
    body = [rounded(-w, -0.8, w, 0.9, 0.42), box(-w, 0.3, w, 0.9)]
    front = [("accent", rounded(-w + 0.14, pocket, w - 0.14, 0.78, 0.1)),
             ("light", box(-0.11, pocket - 0.14, 0.11, pocket + 0.14))]
    return Shape(behind=behind, body=body, front=front, top=(0, -0.8), back=((-0.4, -0.72), (0.4, -0.72)),
                 middle=(0, 0.0))


def car(a: float, b: float, c: float) -> Shape:
    """a: cabin height, b: bonnet length, c: wheel size."""
    roof, nose, r = -0.32 - 0.26 * a, 0.45 + 0.25 * b, 0.25 + 0.07 * c
    body = [rounded(-1.0, 0.0, 1.05, 0.62, 0.16),
            [(-0.85, 0.1), (-0.62, roof), (nose - 0.35, roof), (nose, 0.1)]]
    front = [("glass", [(-0.66, 0.04), (-0.5, roof + 0.12), (-0.2, roof + 0.12), (-0.2, 0.04)]),
             ("glass", [(-0.05, 0.04), (-0.05, roof + 0.12), (nose - 0.42, roof + 0.12), (nose - 0.2, 0.04)])]
    for x in (-0.55, 0.58):
        front += [("dark", ellipse(x, 0.62, r, r)), ("light", ellipse(x, 0.62, 0.11, 0.11, n=14))]
    return Shape(behind=[], body=body, front=front, top=((nose - 0.97) / 2, roof),
                 back=((-0.6, roof), (nose - 0.4, roof)), middle=(0, 0.1))


def robot(a: float, b: float, c: float) -> Shape:
    """a: head width, b: arm length, c: chest width."""
    h, arm, w = 0.34 + 0.14 * a, 0.2 + 0.3 * b, 0.42 + 0.12 * c
    behind = [("accent", box(-w - 0.26, -0.22, -w, arm)), ("accent", box(w, -0.22, w + 0.26, arm)),
              ("accent", box(-0.38, 0.35, -0.1, 0.92)), ("accent", box(0.1, 0.35, 0.38, 0.92)),
              ("accent", box(-0.12, -0.5, 0.12, -0.2))]
    body = [box(-h, -0.95, h, -0.4), box(-w, -0.28, w, 0.45)]
    front = [("light", ellipse(-0.18, -0.7, 0.12, 0.13, n=16)), ("light", ellipse(0.18, -0.7, 0.12, 0.13, n=16)),
             ("dark", box(-0.25, -0.1, 0.25, 0.2))]
    return Shape(behind=behind, body=body, front=front, top=(0, -0.95), back=((-0.35, -0.93), (0.35, -0.93)),
                 middle=(0, 0.0))


def fish(a: float, b: float, c: float) -> Shape:
    """Side view, looking to the right; a: body height, b: tail size, c: fin height."""
    h, t, f = 0.4 + 0.16 * a, 0.34 + 0.2 * b, 0.2 + 0.2 * c
    behind = [("accent", [(-0.4, 0.1), (-1.1, 0.1 - t), (-0.9, 0.1), (-1.1, 0.1 + t)]),
              ("accent", [(-0.4, -0.1), (-0.15, -h - f + 0.1), (0.45, -h + 0.12), (0.3, 0.0)]),
              ("accent", [(-0.2, 0.3), (0.0, h + f), (0.35, 0.3)])]
    front = [("light", ellipse(0.55, -0.02, 0.16, 0.16, n=16)), ("dark", ellipse(0.58, -0.02, 0.09, 0.09, n=12)),
             ("accent", ribbon(arc(0.0, 0.1, 0.35, 0.3, -60, 60), 0.1))]
    return Shape(behind=behind, body=[ellipse(0.15, 0.1, 0.78, h)], front=front, top=(0.35, -h + 0.12),
                 back=((-0.3, -h + 0.2), (0.5, -h + 0.2)), middle=(0, 0.1))


def house(a: float, b: float, c: float) -> Shape:
    """a: roof height, b: width, c: door position."""
    peak, w, door = -0.75 - 0.25 * a, 0.55 + 0.16 * b, -0.35 + 0.42 * c
    body = [box(-w, -0.2, w, 0.9)]
    windows = [x for x in (-0.3, 0.3) if abs(x - door - 0.14) > 0.3] or [0.3]
    front = [("accent", [(-w - 0.25, -0.1), (0, peak), (w + 0.25, -0.1)]),
             ("dark", box(door, 0.3, door + 0.28, 0.9))]
    front += [("light", box(x - 0.13, 0.12, x + 0.13, 0.42)) for x in windows]
    return Shape(behind=[], body=body, front=front, top=(0, peak + 0.08), back=((-0.5, -0.4), (0.5, -0.4)),
                 middle=(0, 0.2))


def boot(a: float, b: float, c: float) -> Shape:
    """Toe to the right; a: shaft width, b: toe length, c: cuff height."""
    w, toe, cuff = 0.55 + 0.14 * a, 0.6 + 0.32 * b, 0.2 + 0.16 * c
    body = [box(-0.6, -0.85, -0.6 + w, 0.75), rounded(-0.6, 0.2, toe, 0.85, 0.3), box(-0.6, 0.4, toe - 0.2, 0.8)]
    front = [("accent", box(-0.67, -0.92, -0.53 + w, -0.92 + cuff)), ("dark", box(-0.63, 0.72, toe + 0.05, 0.92))]
    return Shape(behind=[], body=body, front=front, top=(-0.6 + w / 2, -0.9),
                 back=((-0.5, -0.88), (w - 0.7, -0.88)), middle=(-0.3, -0.1))


def mushroom(a: float, b: float, c: float) -> Shape:
    """a: cap height, b: cap width, c: stem width."""
    h, w, s = 0.6 + 0.22 * a, 0.72 + 0.22 * b, 0.2 + 0.12 * c
    behind = [("cream", rounded(-s, -0.2, s, 0.92, 0.1)), ("accent", ellipse(0, 0.0, w * 0.92, 0.18))]
    cap = [p for p in ellipse(0, 0.0, w, h, n=40) if p[1] <= 0.01]
    return Shape(behind=behind, body=[cap], front=[], top=(0, -h + 0.04), back=((-0.5, -h * 0.7), (0.5, -h * 0.7)),
                 middle=(0, -0.2))


SHAPES: Final[dict[str, Callable[[float, float, float], Shape]]] = {
    f.__name__: f for f in (dog, cat, teapot, backpack, car, robot, fish, house, boot, mushroom)
}
NOUNS: Final = tuple(SHAPES)
ODD_PARTS: Final = ("none", "horn", "wings", "spikes")


def odd_part(kind: str, shape: Shape) -> list[Polygon]:
    """The outlines of a part that no caption mentions, at the shape's own anchor points."""
    x, y = shape.top
    if kind == "none":
        return []
    if kind == "horn":
        return [[(x - 0.17, y + 0.1), (x + 0.1, y - 0.52), (x + 0.2, y + 0.1)]]
    if kind == "wings":
        x, y = shape.middle
        return [[(x, y + 0.15), (x + s * 0.95, y - 0.75), (x + s * 1.15, y - 0.1), (x + s * 0.6, y + 0.35)]
                for s in (-1, 1)]
    if kind == "spikes":
        (x0, y0), (x1, y1) = shape.back
        third = (x1 - x0) / 3
        return [[(x0 + third * i, y0 + 0.15), (x0 + third * (i + 0.5), y0 - 0.38), (x0 + third * (i + 1), y1 + 0.15)]
                for i in range(3)]
    raise ValueError(f"odd part: got {kind!r}, expected one of {ODD_PARTS}")


def hat(shape: Shape) -> list[Polygon]:
    """A top hat: brim and crown."""
    x, y = shape.top
    return [box(x - 0.42, y - 0.08, x + 0.42, y + 0.1), box(x - 0.25, y - 0.5, x + 0.25, y)]
