"""What edit and inpainting models are shown beside the noise: reference images of each photo, and the photo's own mask.

As stock nodes hand it on: reference latents as ReferenceLatent does, a picture in channels of its own as
InstructPixToPixConditioning, a mask with the picture around it as InpaintModelConditioning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ....core.data.crops import Crop, reference_crop
from ....core.data.examples import References
from ....core.errors import require
from ....core.subject.subject import Photo, Subject
from ..model.denoiser import is_inpainting, needs_picture, reads_references
from .latents import ViewEncoder, crop_mask, photo_crops

GREY = 0.5
"""What stands where an inpainting model is to paint."""


def has_references(subjects: Iterable[Subject]) -> bool:
    """Whether a photo has reference images."""
    return any(photo.references for subject in subjects for photo in subject.photos)


def most_references(subjects: Iterable[Subject]) -> int:
    """The most reference images that one photo has."""
    return max((len(photo.references) for subject in subjects for photo in subject.photos), default=0)


def all_have_references(subjects: Iterable[Subject]) -> bool:
    """Whether every photo has one reference image."""
    return all(len(photo.references) == 1 for subject in subjects for photo in subject.photos)


def check_references(model: Any, subjects: Sequence[Subject]) -> None:
    """Raise `InputError` where the MODEL does not read what the subjects bring."""
    require(not has_references(subjects) or needs_picture(model) or reads_references(model), "references",
            "reference images with a model that reads none", "an edit model (Kontext, Qwen-Image-Edit, Flux.2)",
            "Load one, or disconnect the reference images.")
    inpainted = [subject for subject in subjects if subject.data.inpaint_masks]
    require(not inpainted or is_inpainting(model), "inpaint_masks", "on, with a model that reads no mask",
            "an inpainting model", "Load one, or turn it off in Data Options.")
    without = [photo for subject in inpainted for photo in subject.photos if photo.mask is None]
    require(not without, "masks", f"{len(without)} photos without a mask, and inpaint_masks on",
            "a mask for every photo of the subject", "Connect the masks, or turn inpaint_masks off in Data Options.")


def encode_references(model: Any, vae: Any, subjects: Sequence[Subject], size: int, step: int, root: Path,
                      vae_hash: str, is_seen: bool) -> list[list[References]]:
    """As `shown_references`; encodings are kept on disk."""
    return shown_references(model, subjects, size, step, is_seen, ViewEncoder(vae, root, vae_hash))


def shown_references(model: Any, subjects: Sequence[Subject], size: int, step: int, is_seen: bool,
                     encode: Callable[[Photo, Crop], Tensor]) -> list[list[References]]:
    """For each photo what is shown beside its views, none for a photo that has nothing.

    Args:
        size: the run's resolution in pixels.
        step: what sides of references in pixels are multiples of.
        is_seen: whether the text encoder looks at them.
        encode: the latents (C, h, w) of a crop.
    """
    is_concat = has_references(subjects) and needs_picture(model)

    def shown(subject: Subject, photo: Photo, crop: Crop) -> References:
        if subject.data.inpaint_masks and photo.mask is not None and not photo.references:
            mask = crop_mask(photo.mask, crop)
            return References(concat=encode(_emptied(photo), crop), mask=mask[None])
        latents = tuple(encode(one, _cut(one, photo, crop, size, step)) for one in photo.references)
        if is_concat:
            return References(concat=latents[0])
        pictures = tuple(one.pixels for one in photo.references) if is_seen else ()
        return References(latents=latents, pictures=pictures, key=_key(photo.references) if is_seen else "")

    return [[shown(subject, photo, crop) for crop in photo_crops(photo, size, subject.data)]
            if photo.references or subject.data.inpaint_masks else []
            for subject in subjects for photo in subject.photos]


def _cut(reference: Photo, photo: Photo, crop: Crop, size: int, step: int) -> Crop:
    (height, width), (tall, wide) = reference.pixels.shape[:2], photo.pixels.shape[:2]
    return reference_crop(height, width, (tall, wide), crop, size, step)


def _emptied(photo: Photo) -> Photo:
    """The photo with grey where its mask is."""
    assert photo.mask is not None  # see `check_references`
    keep = 1 - photo.mask.round()[..., None]
    return Photo(pixels=(photo.pixels - GREY) * keep + GREY)


def _key(references: Iterable[Photo]) -> str:
    digest = hashlib.blake2b("/".join(one.pixels_digest for one in references).encode(), digest_size=20)
    return digest.hexdigest()
