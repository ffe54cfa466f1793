"""Renders the example photos of the workflows: pictures of one held-out subject of the pocket world.

The pocket model has never seen this subject, and no caption can describe it.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from ..pocket.world import Look, Scene, draw_object, render, subject, subject_scenes
from ..pocket.world_paint import SUPERSAMPLING, Pose
from ..pocket.world_scenes import BACKDROPS

FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "photos"
SUBJECT, NOUN, COUNT = 0, "dog", 4
SCENE_SUBJECTS = ((0, "dog"), (4, "backpack"))
"""Seeds and nouns of the two held-out subjects that share one photo."""
# Larger than the model's own pictures, as photos are.
PHOTO_SIZE = 192


def with_mask(picture: np.ndarray, cover: np.ndarray) -> Image.Image:
    """A picture whose subject is painted in ComfyUI's mask editor: transparent there, colours kept."""
    return Image.fromarray(np.dstack([picture, 255 - cover]), "RGBA")


def beach() -> Scene:
    """An ordinary red dog on the beach, for img2img and inpainting."""
    look = Look(noun=NOUN, numbers=(0.5, 0.5, 0.5), colour="red", second="", pattern="plain", part="none",
                part_colour="")
    return Scene(look=look, context="beach", has_hat=False, caption="", seed=0)


def two_objects(context: str = "plain") -> tuple[Image.Image, list[np.ndarray]]:
    """Two held-out subjects side by side in one wide picture, and the exact coverage of each, where it is in sight.

    They are as large as in other photos: the world paints squares, of which the middle is kept.
    """
    full, wide = PHOTO_SIZE * SUPERSAMPLING, 2 * PHOTO_SIZE * SUPERSAMPLING
    picture, covers = BACKDROPS[context](wide, random.Random(0)), []
    for place, (seed, noun) in zip((0.27, 0.74), SCENE_SUBJECTS, strict=True):
        pose = Pose(x=place * wide, y=0.54 * wide, scale=0.34 * full, angle=0.0)
        covers.append(draw_object(picture, pose, subject(seed, noun), has_hat=False, jitter=(0, 0, 0)))
    middle, size = (0, full // 2, wide, full // 2 + full), (2 * PHOTO_SIZE, PHOTO_SIZE)
    masks = [np.asarray(cover.crop(middle).resize(size, Image.Resampling.BOX)) for cover in covers]
    masks[0] = np.where(masks[1] > 0, 0, masks[0])  # the second one stands in front
    return picture.crop(middle).resize(size, Image.Resampling.BOX), masks


def main() -> None:
    """Write ``personalize_dog_1.png`` and so on, the masked one, and the scene."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(subject_scenes(SUBJECT, COUNT, NOUN), start=1):
        picture, cover = render(scene, PHOTO_SIZE)
        Image.fromarray(picture).save(FOLDER / f"personalize_{NOUN}_{number}.png", optimize=True)
        if number == 1:
            with_mask(picture, cover).save(FOLDER / f"personalize_{NOUN}_masked.png", optimize=True)
    both, covers = two_objects()
    both.save(FOLDER / "personalize_two_objects.png", optimize=True)
    for (_, noun), cover in zip(SCENE_SUBJECTS, covers, strict=True):
        with_mask(np.asarray(both), cover).save(FOLDER / f"personalize_two_objects_{noun}.png", optimize=True)
    with_mask(*render(beach(), PHOTO_SIZE)).save(FOLDER / "personalize_scene_masked.png", optimize=True)


if __name__ == "__main__":
    main()
