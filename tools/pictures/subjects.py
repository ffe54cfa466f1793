"""Held-out subjects: their photos as files, and the gallery among which a picture's subject is sought."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from ...pocket.drawing import coverage, render
from ...pocket.looks import Look, subject
from ...pocket.placing import Spot
from ...pocket.scenes import Scene, Thing, possible_contexts, subject_scenes

PLACES: Final = frozenset({"desert", "snow", "jungle", "beach"})
"""Where the workflows' prompts put a subject: it must be seen there, and its photos are from elsewhere."""
PHOTOS, PHOTO_SIZE = 4, 192
OTHERS: Final = 47
"""Other held-out subjects in the gallery."""
FIRST_OTHER: Final = 5000
SECOND_NOUN: Final = "backpack"


class Subject(NamedTuple):
    """A held-out subject."""

    number: int
    noun: str


@cache
def subjects(wanted: int) -> tuple[Subject, ...]:
    """The first held-out subjects that are seen in all of `PLACES`."""
    looks = ((number, subject(number)) for number in count())
    return tuple(islice((Subject(number, look.noun) for number, look in looks
                         if set(possible_contexts([look])) >= PLACES), wanted))


def photos_of(number: int, wanted: int = PHOTOS, noun: str | None = None) -> list[Scene]:
    """Scenes of a subject away from the prompts' places."""
    scenes = subject_scenes(number, 40, noun)
    return list(islice((scene for scene in scenes if scene.context not in PLACES), wanted))


def views_of(number: int) -> list[Scene]:
    """Scenes of a subject in the prompts' places."""
    return [scene for scene in subject_scenes(number, 40) if scene.context in PLACES]


def small(scenes: list[Scene]) -> np.ndarray:
    """Their pictures at the judge's size, (N, 96, 96, 3) uint8."""
    return np.stack([render(scene)[0] for scene in scenes])


def second_object(who: Subject) -> Look:
    """What stands beside the subject in the photo of two."""
    return subject(who.number + 1000, second_noun(who))


def second_noun(who: Subject) -> str:
    """A noun other than the subject's."""
    return "boot" if who.noun == SECOND_NOUN else SECOND_NOUN


def write_photos(who: Subject, folder: Path) -> dict[str, str]:
    """Writes a subject's photos; the names of the workflows' own files -> theirs."""
    names = {f"personalize_dog_{k}.png": f"pictures_{who.number}_{k}.png" for k in range(1, PHOTOS + 1)}
    names["personalize_dog_masked.png"] = f"pictures_{who.number}_masked.png"
    folder.mkdir(parents=True, exist_ok=True)
    for k, scene in enumerate(photos_of(who.number), start=1):
        picture, labels = render(scene, PHOTO_SIZE)
        Image.fromarray(picture).save(folder / f"pictures_{who.number}_{k}.png")
        if k == 1:
            _masked(picture, coverage(labels, 1, PHOTO_SIZE)).save(folder / names["personalize_dog_masked.png"])
    return names | _write_two(who, folder)


def _write_two(who: Subject, folder: Path) -> dict[str, str]:
    """Both subjects side by side in a picture twice as wide as high: the middle of a square one."""
    looks = (subject(who.number), second_object(who))
    things = tuple(Thing(look=look, spot=Spot(x=x, y=0.52, scale=0.17, angle=0.0))
                   for look, x in zip(looks, (0.27, 0.74), strict=True))
    scene = replace(photos_of(who.number, 1)[0], things=things, relation="next to", context="plain")
    picture, labels = render(scene, 2 * PHOTO_SIZE)
    middle = slice(PHOTO_SIZE // 2, PHOTO_SIZE // 2 + PHOTO_SIZE)
    names = {"personalize_two_objects.png": f"pictures_{who.number}_two.png"}
    Image.fromarray(picture[middle]).save(folder / names["personalize_two_objects.png"])
    for label, noun in ((1, "dog"), (2, SECOND_NOUN)):
        names[f"personalize_two_objects_{noun}.png"] = f"pictures_{who.number}_two_{label}.png"
        cover = coverage(labels, label, 2 * PHOTO_SIZE)
        _masked(picture[middle], cover[middle]).save(folder / f"pictures_{who.number}_two_{label}.png")
    return names


def _masked(picture: np.ndarray, cover: np.ndarray) -> Image.Image:
    """A picture whose subject is painted in ComfyUI's mask editor: transparent there."""
    return Image.fromarray(np.dstack([picture, (255 * (1 - cover)).round().astype(np.uint8)]), "RGBA")
