"""Scenes of the pocket world that a benchmark composes: looks where it wants them, and whose pixels are whose."""

from __future__ import annotations

import random
from collections.abc import Sequence

from numpy import ndarray

from ..pocket.drawing import render
from ..pocket.looks import Look
from ..pocket.placing import Spot
from ..pocket.scenes import Scene, Thing


def draw_scene(looks: Sequence[tuple[Look, Spot]], context: str, seed: int) -> tuple[ndarray, ndarray]:
    """Looks where they stand in a place: pixels (H, W, 3) uint8 and the label map (2 H, 2 W) of `drawing.render`."""
    things = tuple(Thing(look=look, spot=spot) for look, spot in looks)
    return render(Scene(things=things, relation="next to" if len(things) > 1 else "", context=context, style="photo",
                        caption="", seed=seed))


def draw_alone(look: Look, context: str, seed: int) -> tuple[ndarray, ndarray]:
    """A look by itself in the middle of a place, as `draw_scene` gives it."""
    rng = random.Random(seed)
    spot = Spot(x=rng.uniform(0.45, 0.55), y=rng.uniform(0.57, 0.62), scale=rng.uniform(0.32, 0.37),
                angle=rng.uniform(-0.08, 0.08))
    return draw_scene([(look, spot)], context, seed)
