"""Subjects for personalization as a user would bring them, and pictures of what captions describe, with their truth.

Tools, benches and tests ask here for pictures of the pocket world; how it is drawn is training's matter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image

from .config import SIZE
from .world import SEEDS, Look, Scene, draw_object, render, subject, subject_scenes, training_scene, with_context
from .world_paint import SUPERSAMPLING, Pose
from .world_scenes import BACKDROPS, CONTEXTS, PHRASES
from .world_shapes import NOUNS

__all__ = ["CONTEXTS", "EXAMPLES", "HELD_IN", "HELD_OUT", "NOUNS", "PHRASES", "Picture", "class_noun",
           "described_picture", "held_out_pictures", "photo_in", "side_by_side", "subject_photos"]

HELD_IN: Final = tuple(range(8))
"""Subjects on which settings are chosen."""
HELD_OUT: Final = tuple(range(8, 16))
"""Subjects of final figures alone."""
EXAMPLES: Final = ((0, "dog"), (4, "backpack"))
"""Number and class noun of the subjects of the workflows' example photos."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One rendered picture with its truth.

    Attributes:
        pixels: (S, S, 3) uint8.
        cover: (S, S) uint8, 255 where the thing covers a whole pixel.
        noun: what the thing is.
        context: where it is, one of `CONTEXTS`.
    """

    pixels: np.ndarray
    cover: np.ndarray
    noun: str
    context: str

    def with_mask(self) -> Image.Image:
        """The picture with the thing painted in ComfyUI's mask editor: transparent there, colours kept."""
        return with_mask(self.pixels, self.cover)


def with_mask(pixels: np.ndarray, cover: np.ndarray) -> Image.Image:
    """RGBA of a picture (H, W, 3) that is transparent where `cover` (H, W) is 255, as the mask editor paints."""
    return Image.fromarray(np.dstack([pixels, 255 - cover]), "RGBA")


def class_noun(number: int) -> str:
    """What a subject is. Numbers count from 0; no caption can describe how one looks."""
    return subject(number).noun


def subject_photos(number: int, count: int, noun: str | None = None, size: int = SIZE) -> list[Picture]:
    """So many photos of one subject, alone, in changing places and poses; `noun` in place of its own class noun."""
    return [_picture(scene, size) for scene in subject_scenes(number, count, noun)]


def photo_in(number: int, context: str = "", *, wears_hat: bool = False) -> Picture:
    """A subject's first photo, in another place where one is named."""
    scene = replace(next(subject_scenes(number, 1)), has_hat=wears_hat)
    return _picture(with_context(scene, context) if context else scene)


def held_out_pictures(count: int, start: int = 0) -> list[Picture]:
    """Scenes of the kind that base training sees, of seeds that it never saw, in places that have a phrase."""
    scenes = (training_scene(seed) for seed in SEEDS["held_out_scenes"][start:])
    shown = (scene for scene in scenes if PHRASES[scene.context])
    return [_picture(next(shown)) for _ in range(count)]


def described_picture(noun: str, colour: str, context: str, size: int = SIZE) -> Picture:
    """An ordinary thing in one named colour."""
    look = Look(noun=noun, numbers=(0.5, 0.5, 0.5), colour=colour, second="", pattern="plain", part="none",
                part_colour="")
    return _picture(Scene(look=look, context=context, has_hat=False, caption="", seed=0), size)


def side_by_side(pair: Sequence[tuple[int, str]], size: int,
                 context: str = "plain") -> tuple[np.ndarray, list[np.ndarray]]:
    """Two subjects in one wide picture, as large as in other photos.

    Args:
        pair: number and class noun of each, from left to right; the right one stands in front.
        size: the picture's height; it is twice as wide.
        context: the place.

    Returns:
        The picture (size, 2 size, 3), and of each subject the cover (size, 2 size) where it is in sight, uint8.
    """
    full, wide = size * SUPERSAMPLING, 2 * size * SUPERSAMPLING
    picture, covers = BACKDROPS[context](wide, random.Random(0)), []
    for place, (number, noun) in zip((0.27, 0.74), pair, strict=True):
        pose = Pose(x=place * wide, y=0.54 * wide, scale=0.34 * full, angle=0.0)
        covers.append(draw_object(picture, pose, subject(number, noun), has_hat=False, jitter=(0, 0, 0)))
    middle = (0, full // 2, wide, full // 2 + full)  # the world paints squares
    small = [np.asarray(image.crop(middle).resize((2 * size, size), Image.Resampling.BOX))
             for image in (picture, *covers)]
    small[1] = np.where(small[2] > 0, 0, small[1])
    return small[0], small[1:]


def _picture(scene: Scene, size: int = SIZE) -> Picture:
    pixels, cover = render(scene, size)
    return Picture(pixels, cover, scene.look.noun, scene.context)
