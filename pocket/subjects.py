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
from .drawing import coverage, render
from .looks import NAMED_COLOURS, SEEDS, Look, subject
from .places import CONTEXTS, EXCLUDED_COLOURS
from .places import PHRASES as ALL_PHRASES
from .placing import Spot, place_one
from .scenes import Scene, Thing, headroom, subject_scenes, training_scene
from .world_shapes import NOUNS

__all__ = ["CONTEXTS", "EXAMPLES", "HELD_IN", "HELD_OUT", "NOUNS", "PHRASES", "Picture", "class_noun",
           "described_picture", "held_out_pictures", "look_of", "photo_in", "side_by_side", "subject_photos"]

PHRASES: Final = {context: phrases[0] for context, phrases in ALL_PHRASES.items()}
"""How a caption usually names a place."""
HELD_IN: Final = tuple(range(8))
"""Subjects on which settings are chosen: the world's `held_in_subjects`. All other numbers are held out."""
HELD_OUT: Final = tuple(range(8, 16))
"""Subjects of final figures alone."""
EXAMPLES: Final = ((1389, "dog"), (712, "backpack"))
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
    return look_of(number).noun


def look_of(number: int, noun: str | None = None) -> Look:
    """How a subject looks; `noun` in place of its own class noun."""
    return subject(number, noun, _split(number))


def subject_photos(number: int, count: int, noun: str | None = None, size: int = SIZE) -> list[Picture]:
    """So many photos of one subject, alone, in changing places and poses; `noun` in place of its own class noun."""
    return [_picture(scene, size) for scene in subject_scenes(number, count, noun, split=_split(number))]


def photo_in(number: int, context: str = "", *, wears_hat: bool = False) -> Picture:
    """A subject's first photo, in another place where one is named."""
    scene = next(subject_scenes(number, 1, split=_split(number)))
    scene = replace(scene, context=context or scene.context)
    if wears_hat:
        (thing,) = scene.things
        hidden = thing.look.colours | set(EXCLUDED_COLOURS[scene.context])
        colour = next(colour for colour in NAMED_COLOURS if colour not in hidden)
        scene = replace(scene, things=(replace(thing, accessory="hat", accessory_colour=colour),))
    return _picture(scene)


def held_out_pictures(count: int, start: int = 0) -> list[Picture]:
    """Scenes of one thing of the kind that base training sees, of seeds that it never saw, in places with a phrase."""
    scenes = (training_scene(seed) for seed in SEEDS["held_out_scenes"][start:])
    shown = (scene for scene in scenes if PHRASES[scene.context] and len(scene.things) == 1 and scene.style == "photo")
    return [_picture(next(shown)) for _ in range(count)]


def described_picture(noun: str, colour: str, context: str, size: int = SIZE) -> Picture:
    """An ordinary thing in one named colour."""
    look = Look(noun=noun, numbers=(0.5, 0.5, 0.5), colour=colour)
    return _picture(_scene(Thing(look=look, spot=place_one(random.Random(0), "large", headroom(look, ""))[0]),
                           context=context), size)


def side_by_side(pair: Sequence[tuple[int, str]], size: int,
                 context: str = "plain") -> tuple[np.ndarray, list[np.ndarray]]:
    """Two subjects in one wide picture, as large as in other photos.

    Args:
        pair: number and class noun of each, from left to right.
        size: the picture's height; it is twice as wide.
        context: the place.

    Returns:
        The picture (size, 2 size, 3), and of each subject the cover (size, 2 size) where it is in sight, uint8.
    """
    scene = _scene(*(Thing(look=look_of(*who), spot=Spot(x=x, y=0.52, scale=0.17, angle=0.0))
                     for who, x in zip(pair, (0.27, 0.74), strict=True)), context=context)
    pixels, labels = render(scene, 2 * size)
    middle = slice(size // 2, size // 2 + size)  # the world paints squares
    return pixels[middle], [_cover(labels, k, 2 * size)[middle] for k in (1, 2)]


def _split(number: int) -> str:
    return "held_in_subjects" if number in HELD_IN else "held_out_subjects"


def _scene(*things: Thing, context: str) -> Scene:
    return Scene(things=things, relation="next to" if len(things) == 2 else "", context=context, style="photo",
                 caption="", seed=0)


def _cover(labels: np.ndarray, label: int, size: int) -> np.ndarray:
    covered: np.ndarray = (255 * coverage(labels, label, size)).round().astype(np.uint8)
    return covered


def _picture(scene: Scene, size: int = SIZE) -> Picture:
    pixels, labels = render(scene, size)
    return Picture(pixels, _cover(labels, 1, size), scene.things[0].look.noun, scene.context)
