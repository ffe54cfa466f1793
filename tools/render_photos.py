"""Renders the example photos of the workflows: pictures of one held-out subject of the pocket world.

The pocket model has never seen this subject, and no caption can describe it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ..pocket.subjects import EXAMPLES, Picture, described_picture, side_by_side, subject_photos, with_mask
from .pictures.subjects import PLACES

FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "photos"
(SUBJECT, NOUN), COUNT = EXAMPLES[0], 4
# Larger than the model's own pictures, as photos are.
PHOTO_SIZE = 192
MARGIN = 14
"""Pixels that the place for another subject is painted beyond the thing that stands there."""


def example_photos() -> list[Picture]:
    """The four photos of the workflows."""
    photos = subject_photos(SUBJECT, 4 * COUNT, NOUN, PHOTO_SIZE)
    return [photo for photo in photos if photo.context not in PLACES][:COUNT]


def generously(cover: np.ndarray) -> np.ndarray:
    """A cover (H, W) with `MARGIN` pixels around: a place in which things of other outlines stand, too."""
    return np.asarray(Image.fromarray(cover).filter(ImageFilter.MaxFilter(2 * MARGIN + 1)))


def main() -> None:
    """Write ``personalize_dog_1.png`` and so on, the masked one, two subjects in one photo, and a scene."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(example_photos(), start=1):
        Image.fromarray(photo.pixels).save(FOLDER / f"personalize_{NOUN}_{number}.png", optimize=True)
        if number == 1:
            photo.with_mask().save(FOLDER / f"personalize_{NOUN}_masked.png", optimize=True)
    both, covers = side_by_side(EXAMPLES, PHOTO_SIZE)
    Image.fromarray(both).save(FOLDER / "personalize_two_objects.png", optimize=True)
    for (_, noun), cover in zip(EXAMPLES, covers, strict=True):
        with_mask(both, cover).save(FOLDER / f"personalize_two_objects_{noun}.png", optimize=True)
    scene = described_picture(NOUN, "green", "beach", PHOTO_SIZE)  # for img2img and inpainting
    with_mask(scene.pixels, generously(scene.cover)).save(FOLDER / "personalize_scene_masked.png", optimize=True)


if __name__ == "__main__":
    main()
