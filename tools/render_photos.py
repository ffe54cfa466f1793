"""Renders the example photos of the workflows: pictures of one held-out subject of the pocket world.

The pocket model has never seen this subject, and no caption can describe it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..pocket.world import Look, Scene, render, subject_scenes

FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "photos"
SUBJECT, NOUN, COUNT = 0, "dog", 4
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


def main() -> None:
    """Write ``personalize_dog_1.png`` and so on, the masked one, and the scene."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(subject_scenes(SUBJECT, COUNT, NOUN), start=1):
        picture, cover = render(scene, PHOTO_SIZE)
        Image.fromarray(picture).save(FOLDER / f"personalize_{NOUN}_{number}.png", optimize=True)
        if number == 1:
            with_mask(picture, cover).save(FOLDER / f"personalize_{NOUN}_masked.png", optimize=True)
    with_mask(*render(beach(), PHOTO_SIZE)).save(FOLDER / "personalize_scene_masked.png", optimize=True)


if __name__ == "__main__":
    main()
