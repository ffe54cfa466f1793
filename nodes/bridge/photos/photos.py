"""IMAGE, MASK and captions, as ComfyUI's nodes hand them over, to photos of a subject."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ....core.data.options import DataOptions
from ....core.errors import InputError, require
from ....core.subject.subject import Photo, SceneObject, Subject, make_scene
from ....core.wording import clean_prompt

MAX_SIDE = 2048
"""Longest side kept, in pixels: above any training resolution, and no photo takes more than 50 MB."""
PLACEHOLDER = (64, 64)
"""Stock Load Image gives a black mask of this size for a picture without transparency."""


def photos_from_images(images: Iterable[Tensor], masks: Iterable[Tensor] = ()) -> tuple[Photo, ...]:
    """One photo per picture of every batch (B, H, W, C), in order, each with its mask if there are any.

    Raises:
        InputError: masks of another number or size than the photos, an empty one, or an unusable picture.
    """
    pictures = [picture for batch in images for picture in _unbatched(batch, 4, "images")]
    shapes: list[Tensor | None] = [mask for batch in masks for mask in _unbatched(batch, 3, "masks")]
    require(
        len(shapes) in (0, len(pictures)),
        "masks",
        f"{len(shapes)} masks for {len(pictures)} photos",
        "one mask per photo, or none at all",
        "Connect one mask for each photo in the same order, or disconnect all.",
    )
    return tuple(
        _photo(picture, mask)
        for picture, mask in zip(pictures, shapes or [None] * len(pictures), strict=True)
    )


def with_captions(photos: Sequence[Photo], captions: Sequence[str]) -> tuple[Photo, ...]:
    """The photos with captions of their own: a list of as many texts, or one text of as many lines. An empty one
    leaves its photo to the subject's template.

    Raises:
        InputError: another number of captions than of photos.
    """
    lines = [clean_prompt(text, "captions") for text in captions]
    if len(lines) == 1 and len(photos) > 1:
        lines = lines[0].splitlines()
    lines = [" ".join(line.split()) for line in lines]
    while len(lines) > len(photos) and not lines[-1]:
        lines.pop()
    if not any(lines):
        return tuple(photos)
    require(len(lines) == len(photos), "captions", f"{len(lines)} captions for {len(photos)} photos",
            "one caption per photo, or none", "Write one line for each photo; an empty line uses caption_template.")
    return tuple(replace(photo, caption=line or None) for photo, line in zip(photos, lines, strict=True))


def with_captions_in_order(subjects: Sequence[Subject], captions: Sequence[str]) -> tuple[Subject, ...]:
    """Several subjects with captions of all their photos, as `with_captions`; an empty one leaves a photo its own.

    Raises:
        InputError: another number of captions than of photos, or one without its subject's identifier.
    """
    photos = [photo for one in subjects for photo in one.photos]
    captioned = iter(with_captions(photos, captions))
    return tuple(replace(one, photos=tuple(replace(photo, caption=next(captioned).caption or photo.caption)
                                           for photo in one.photos)) for one in subjects)


def with_references(photos: Sequence[Photo], images: Iterable[Tensor]) -> tuple[Photo, ...]:
    """The photos with reference images: as many for each, those of the first photo first.

    Raises:
        InputError: a number that is no multiple of the photos, or an unusable picture.
    """
    pictures = [picture for batch in images for picture in _unbatched(batch, 4, "references")]
    if not pictures:
        return tuple(photos)
    require(bool(photos) and len(pictures) % len(photos) == 0, "references",
            f"{len(pictures)} reference images for {len(photos)} photos", "as many for every photo, or none at all",
            "Connect one for each photo in the same order; or two for the first, two for the second, and so on.")
    try:
        found = [_photo(picture, None) for picture in pictures]
    except InputError as fault:
        raise InputError("references", fault.got, fault.expected, fault.fix) from fault
    each = len(found) // len(photos)
    return tuple(replace(photo, references=tuple(found[number * each:(number + 1) * each]))
                 for number, photo in enumerate(photos))


def scene_from_image(image: Tensor, objects: Sequence[SceneObject], caption_template: str,
                     data: DataOptions | None, references: Sequence[Tensor] = ()) -> Subject:
    """One picture of several objects, each with its mask (H, W) or (1, H, W), as a subject.

    Raises:
        InputError: not one picture and one mask for each object, or what `make_scene` refuses.
    """
    pictures = _unbatched(image, 4, "image")
    require(len(pictures) == 1, "image", f"{len(pictures)} photos", "one photo", "Use one Scene Photo for each photo.")
    raw = _three_channels(pictures[0].detach().cpu().float())
    masks = [_one_mask(found.mask, raw) for found in objects]
    photos = [_photo(pictures[0], mask) for mask in masks]
    scaled = [replace(found, mask=photo.mask) for found, photo in zip(objects, photos, strict=True)
              if photo.mask is not None]
    scene = make_scene(photos[0].pixels if photos else raw, scaled, caption_template, data)
    return replace(scene, photos=with_references(scene.photos, references))


def _one_mask(mask: Tensor, pixels: Tensor) -> Tensor:
    masks = _unbatched(mask, 3, "masks")
    require(len(masks) == 1, "masks", f"{len(masks)} masks for one object", "one mask",
            "Give each object an Object Mask of its own.")
    return _checked_mask(masks[0].detach().cpu().float(), pixels)


def _unbatched(batch: Tensor, dimensions: int, name: str) -> Sequence[Tensor]:
    """The single pictures or masks of a batch; a single one is accepted without its batch dimension."""
    if batch.ndim == dimensions - 1:
        return [batch]
    require(
        batch.ndim == dimensions,
        name,
        f"a tensor of shape {tuple(batch.shape)}",
        f"{dimensions} dimensions",
        "Connect an IMAGE to images and a MASK to masks.",
    )
    return list(batch)


def _photo(picture: Tensor, mask: Tensor | None) -> Photo:
    pixels = _three_channels(picture.detach().cpu().float())
    mask = None if mask is None else _checked_mask(mask.detach().cpu().float(), pixels)
    Photo(pixels=pixels, mask=mask)  # checks sizes and values before anything is scaled
    require(
        float(pixels.max()) <= 2,
        "images",
        f"pixel values up to {float(pixels.max()):.0f}",
        "values from 0 to 1",
        "Divide the image by 255 where it is made.",
    )
    return Photo(
        pixels=_bounded(pixels).clamp(0, 1),
        mask=None if mask is None else _bounded(mask[..., None])[..., 0].clamp(0, 1),
    )


def _three_channels(pixels: Tensor) -> Tensor:
    """Grey is repeated; transparency is shown on white, so that hidden colours are never learned."""
    channels = pixels.shape[-1]
    if channels == 4:
        alpha = pixels[..., 3:].clamp(0, 1)
        return pixels[..., :3] * alpha + (1 - alpha)
    require(
        channels in (1, 3),
        "images",
        f"{channels} channels",
        "grey, RGB or RGBA pictures",
        "Connect an ordinary IMAGE, such as Load Image's.",
    )
    return pixels.expand(*pixels.shape[:2], 3)


def _checked_mask(mask: Tensor, pixels: Tensor) -> Tensor:
    """The mask itself; what stock Load Image gives for a picture without transparency is named as such."""
    if tuple(mask.shape) == PLACEHOLDER and mask.shape != pixels.shape[:2] and not bool(mask.any()):
        raise InputError(
            "masks",
            "an empty mask of 64 x 64 pixels (Load Image gives it for a picture without transparency)",
            "some white pixels on the subject, at the photo's size",
            "Paint the subject in the Mask Editor of Load Image, connect another mask, or disconnect it.",
        )
    require(
        bool(mask.isfinite().all()),
        "masks",
        "a mask with NaN or infinite values",
        "values from 0 to 1",
        "Look at the node that made this mask; its output is broken.",
    )
    return mask


def _bounded(pixels: Tensor) -> Tensor:
    """(H, W, C) with the longer side at most MAX_SIDE, scaled by area."""
    longest = max(pixels.shape[:2])
    if longest <= MAX_SIDE:
        return pixels.clone()
    size = [max(1, round(side * MAX_SIDE / longest)) for side in pixels.shape[:2]]
    scaled = functional.interpolate(pixels.movedim(-1, 0)[None], size=size, mode="area")
    return torch.movedim(scaled[0], 0, -1).contiguous()
