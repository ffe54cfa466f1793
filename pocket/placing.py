"""Where in the picture does each thing stand? Poses by relation, in picture units (0 to 1, y down)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

RELATIONS: Final[dict[str, str]] = {
    "and": "and", "next to": "next to", "left of": "to the left of", "right of": "to the right of",
    "in front of": "in front of", "behind": "behind", "on top of": "on top of",
}
"""Relation of the first thing of a caption to the second, and how captions say it."""
FEET: Final = 0.9
"""How far below its middle a thing's feet are, in its own units (`world_shapes`)."""
SIZES: Final = {"": (0.28, 0.38), "small": (0.19, 0.25), "large": (0.37, 0.42)}
"""Scale of a single thing by the word that captions may say; a thing is about two scales high and wide."""
MAX_ASIDE: Final = 0.2
"""How far from the middle a single thing stands at most. With sizes from 0.15 and any place, half a million pictures
did not teach shapes that the first model, whose things stood still, knew after a hundred thousand."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A thing's middle, scale and tilt."""

    x: float
    y: float
    scale: float
    angle: float

    @property
    def feet(self) -> float:
        return self.y + FEET * self.scale


def spot(x: float, feet: float, scale: float, rng: random.Random) -> Spot:
    """A spot whose feet stand at a height."""
    return Spot(x=x, y=feet - FEET * scale, scale=scale, angle=rng.uniform(-0.08, 0.08))


def place_one(rng: random.Random, size: str, headroom: float) -> tuple[Spot, ...]:
    """One thing, at most `MAX_ASIDE` off the middle; `headroom`: how far it reaches above its middle, in its units."""
    scale = min(rng.uniform(*SIZES[size]), 0.93 / (headroom + FEET))
    lowest, aside = max(0.68, (headroom + FEET) * scale + 0.01), min(MAX_ASIDE, 0.5 - 1.12 * scale)
    return (spot(0.5 + rng.uniform(-aside, aside), rng.uniform(lowest, 0.95), scale, rng),)


def place_two(rng: random.Random, relation: str, top: tuple[float, float]) -> tuple[Spot, ...]:
    """Two things in the order of the caption; `top` is where something stands on the second, in its own units."""
    if relation == "on top of":
        return _stacked(rng, top)
    if relation in ("in front of", "behind"):
        front, back = _overlapping(rng)
        return (front, back) if relation == "in front of" else (back, front)
    left, right = _beside(rng)
    is_left = relation == "left of" or (relation != "right of" and rng.random() < 0.5)
    return (left, right) if is_left else (right, left)


def place_three(rng: random.Random) -> tuple[Spot, ...]:
    """Three things side by side, left to right."""
    return tuple(spot(x + rng.uniform(-0.02, 0.02), rng.uniform(0.66, 0.93), rng.uniform(0.12, 0.15), rng)
                 for x in (0.17, 0.5, 0.83))


def _beside(rng: random.Random) -> tuple[Spot, Spot]:
    feet = rng.uniform(0.68, 0.92)
    return (spot(rng.uniform(0.21, 0.27), feet + rng.uniform(-0.03, 0.03), rng.uniform(0.18, 0.22), rng),
            spot(rng.uniform(0.73, 0.79), feet + rng.uniform(-0.03, 0.03), rng.uniform(0.18, 0.22), rng))


def _overlapping(rng: random.Random) -> tuple[Spot, Spot]:
    """The one in front stands lower and to one side, so that at least half of the other is seen."""
    feet, side = rng.uniform(0.88, 0.96), rng.choice((-1, 1))
    middle, apart = rng.uniform(0.4, 0.6), rng.uniform(0.19, 0.25)
    front = spot(middle + side * apart / 2, feet, rng.uniform(0.18, 0.23), rng)
    return front, spot(middle - side * apart / 2, feet - rng.uniform(0.15, 0.22), rng.uniform(0.2, 0.25), rng)


def _stacked(rng: random.Random, top: tuple[float, float]) -> tuple[Spot, Spot]:
    below = spot(rng.uniform(0.4, 0.6), rng.uniform(0.9, 0.96), rng.uniform(0.19, 0.23), rng)
    x, y = below.x + top[0] * below.scale, below.y + (top[1] + 0.1) * below.scale
    return spot(min(max(x, 0.2), 0.8), y, rng.uniform(0.13, 0.16), rng), below
