"""Pictures of a class, from sockets or a folder, to a pool of class images; one by one, so that hundreds fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ....core.errors import require
from ....core.store.class_images import ClassImages
from ....core.subject.own_class_images import own_class_images
from ....core.subject.subject import Photo
from ..model.hashes import vae_hash
from ..output import runs_root
from ..progress import Progress
from .folders import class_photos, find_folder
from .latents import encode_photo, square_pixels
from .photos import photos_from_images, with_captions

SHOWN = 16
"""How many squares the node hands on to look at."""


def photos_of_class(folder: str, images: Iterable[Tensor], captions: Sequence[str]) -> tuple[int, Iterator[Photo]]:
    """How many pictures there are, and the pictures: first those of the folder, read one at a time.

    Raises:
        InputError: for what cannot be used; a file is named.
    """
    given = with_captions(photos_from_images(images), captions)
    count, read = class_photos(find_folder(folder)) if folder else (0, iter(()))

    def both() -> Iterator[Photo]:
        yield from read
        yield from given

    return count + len(given), both()


def encode_class_photos(vae: Any, photos: Iterable[Photo], count: int, class_noun: str,
                        size: int) -> tuple[ClassImages, Tensor]:
    """The pool, each picture's centred square encoded once and then from disk; and the first squares (n, h, w, 3)."""
    digest, root, progress = vae_hash(vae), runs_root(), Progress(count)
    latents: list[Tensor] = []
    digests: list[str] = []
    captions: list[str | None] = []
    shown: list[Tensor] = []
    for number, photo in enumerate(photos, start=1):
        latents.append(encode_photo(vae, photo, size, root, digest))
        digests.append(photo.pixels_digest)
        captions.append(photo.caption)
        if len(shown) < SHOWN:
            shown.append(square_pixels(photo.pixels, size))
        progress.show(number)
    with torch.inference_mode(False):
        rows = [row.clone() for row in latents]
        pool = own_class_images(rows, digests, captions, class_noun=class_noun, size=size, vae=digest)
    return pool, torch.stack(shown)


def check_vae(vae: Any) -> None:
    """Raise `InputError` where a loader has no VAE."""
    require(vae is not None and getattr(vae, "first_stage_model", None) is not None, "vae", "nothing", "a VAE",
            "This checkpoint has none; connect a VAE loader.")
