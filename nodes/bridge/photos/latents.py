"""Photos and masks from ComfyUI's sockets to the model's latents, every view encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ....core.data.crops import Crop, centred_crop, plan_crops
from ....core.data.examples import Example, Masks, View
from ....core.data.options import DataOptions
from ....core.errors import require
from ....core.objectives.masked import mask_to_latent
from ....core.store.files import canonical_json
from ....core.store.runs import read_cache, write_cache
from ....core.subject.subject import Photo, Subject
from ..model.latent_shapes import in_model_space

PhotoLatents = Sequence[Sequence[Tensor]]
"""For each photo the latents (C, h, w) of its views."""


def crop_pixels(pixels: Tensor, crop: Crop) -> Tensor:
    """The crop of pixels (H, W, 3) in 0..1, resized with antialiasing: (h, w, 3)."""
    rows = _cut(pixels, crop).float().movedim(-1, 0)[None]
    resized = functional.interpolate(rows, size=crop.size, mode="bicubic", antialias=True)
    return _mirrored(resized[0].movedim(0, -1).clamp(0, 1), crop)


def crop_mask(mask: Tensor, crop: Crop) -> Tensor:
    """A mask (H, W) in 0..1, cropped as its photo and area-averaged: (h, w)."""
    rows = _cut(mask, crop).float()[None, None]
    resized = functional.interpolate(rows, size=crop.size, mode="bilinear", antialias=True)
    return _mirrored(resized[0, 0].clamp(0, 1), crop)


def square_pixels(pixels: Tensor, size: int) -> Tensor:
    """Pixels (H, W, 3) in 0..1, cropped to the centre and resized with antialiasing: (size, size, 3)."""
    return crop_pixels(pixels, centred_crop(pixels.shape[0], pixels.shape[1], (size, size)))


def _cut(image: Tensor, crop: Crop) -> Tensor:
    return image[crop.top:crop.top + crop.height, crop.left:crop.left + crop.width]


def _mirrored(image: Tensor, crop: Crop) -> Tensor:
    return image.flip(1) if crop.mirrored else image


def photo_crops(photo: Photo, size: int, options: DataOptions) -> tuple[Crop, ...]:
    """All views of a photo; the jitter of the same photo is always the same."""
    height, width = photo.pixels.shape[:2]
    return plan_crops(height, width, size, options, photo.pixels_digest if options.views > 1 else "")


def data_hash(subjects: Iterable[Subject]) -> str:
    """A digest of every photo, mask, caption and data option, in order."""
    digest = hashlib.blake2b(digest_size=20)
    for subject in subjects:
        for text in (subject.identifier, subject.class_noun, subject.caption_template, *_unusual(subject)):
            digest.update(f"{len(text)}:{text}".encode())
        for photo in subject.photos:
            digest.update(photo.digest.encode())
    return digest.hexdigest()


def _unusual(subject: Subject) -> Iterator[str]:
    """What a plain subject has not: data options, captions of single photos, several objects."""
    if subject.data != DataOptions():
        yield f"data options: {canonical_json(subject.data.key_fields())}"
    if any(photo.caption is not None for photo in subject.photos):
        yield f"captions: {canonical_json([photo.caption for photo in subject.photos])}"
    if subject.objects:
        yield f"objects: {canonical_json([asdict(words) for words in subject.objects])}"


def encode_views(vae: Any, subjects: Sequence[Subject], size: int, root: Path,
                 vae_hash: str) -> list[list[Tensor]]:
    """Raw VAE latents (C, h, w) of all views of all photos, from the run store's cache where it has them.

    Raises:
        InputError: when the VAE gives NaN.
    """
    encoder = ViewEncoder(vae, root, vae_hash)
    return [[encoder(photo, crop) for crop in photo_crops(photo, size, subject.data)]
            for subject in subjects for photo in subject.photos]


def encode_photos(vae: Any, subjects: Sequence[Subject], size: int, root: Path, vae_hash: str) -> Tensor:
    """Raw VAE latents (N, C, h, w) of the centred squares of all photos, cached as `encode_views` does.

    Raises:
        InputError: when the VAE gives NaN.
    """
    photos = (photo for subject in subjects for photo in subject.photos)
    return torch.stack([encode_photo(vae, photo, size, root, vae_hash) for photo in photos])


def encode_photo(vae: Any, photo: Photo, size: int, root: Path, vae_hash: str) -> Tensor:
    """Raw VAE latents (C, h, w) of a photo's centred square, cached as `encode_views` does.

    Raises:
        InputError: when the VAE gives NaN.
    """
    return ViewEncoder(vae, root, vae_hash)(photo, photo_crops(photo, size, DataOptions())[0])


class ViewEncoder:
    """Encodes views, each kept on disk under a key of everything that its latents depend on."""

    def __init__(self, vae: Any, root: Path, vae_hash: str):
        self.vae, self.root = vae, root
        self.settings = f"{vae_hash}/{getattr(vae, 'vae_dtype', None)}/{getattr(vae, 'device', None)}"

    def __call__(self, photo: Photo, crop: Crop) -> Tensor:
        """Raw VAE latents (C, h, w) of one view of a photo."""
        text = f"{self.settings}/{photo.pixels_digest}/{canonical_json(asdict(crop))}"
        digest = "latents-" + hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
        cached = read_cache(self.root, digest)
        if cached is not None:
            return cached["latents"]
        latents = encode_view(self.vae, photo, crop)
        write_cache(self.root, digest, {"latents": latents})
        return latents


def encode_view(vae: Any, photo: Photo, crop: Crop) -> Tensor:
    """Raw VAE latents (C, h, w) of one view of a photo."""
    with torch.inference_mode(False), torch.no_grad():
        latents = vae.encode(crop_pixels(photo.pixels, crop)[None]).float().clone()
    if latents.ndim == 5:  # of films: a picture is one frame
        require(latents.shape[2] == 1, "vae", f"{latents.shape[2]} frames of latents for one picture", "an image VAE",
                "Connect the model's own VAE.")
        latents = latents[:, :, 0]
    require(latents.ndim == 4, "vae", f"latents of {latents.ndim} dimensions", "an image VAE",
            "Connect the model's own VAE.")
    require(bool(latents.isfinite().all()), "vae", "NaN latents", "finite latents",
            "Start ComfyUI with --fp32-vae or --bf16-vae: the SDXL VAE overflows in fp16.")
    return latents[0]


def blank_latents(subjects: Sequence[Subject], size: int, channels: int, downscale: int) -> list[list[Tensor]]:
    """Zeros in the shapes that `encode_views` will give."""
    return [[torch.zeros(channels, crop.size[0] // downscale, crop.size[1] // downscale)
             for crop in photo_crops(photo, size, subject.data)] for subject in subjects for photo in subject.photos]


def make_examples(
    model: Any, subjects: Sequence[Subject], latents: PhotoLatents, size: int, dilations: Collection[int] = ()
) -> tuple[Example, ...]:
    """One example per photo, in the model's latent space; masks at latent size, plain and grown by so
    many pixels before."""
    photos = [(subject, photo) for subject in subjects for photo in subject.photos]
    return tuple(_example(model, number, subject, photo, views, size, dilations)
                 for number, ((subject, photo), views) in enumerate(zip(photos, latents, strict=True)))


def _example(model: Any, number: int, subject: Subject, photo: Photo, latents: Sequence[Tensor], size: int,
             dilations: Collection[int]) -> Example:
    crops = photo_crops(photo, size, subject.data)
    first, *others = (_view(photo, crop, row, dilations) for crop, row
                      in zip(crops, in_model_space(model, latents), strict=True))
    return Example(
        latents=first.latents, mask=first.mask, object_masks=first.object_masks, grown=first.grown,
        more_views=tuple(others),
        caption=subject.caption_of(photo), object_caption=subject.object_caption, class_noun=subject.class_noun,
        identifier=subject.identifier, photo=number, objects=subject.objects, repeats=subject.data.repeats,
        caption_dropout=subject.data.caption_dropout, has_own_caption=photo.caption is not None,
    )


def _view(photo: Photo, crop: Crop, latents: Tensor, dilations: Collection[int]) -> View:
    """A view with its masks, cropped as its pixels were."""
    if photo.mask is None:
        return View(latents=latents)
    plain = _masks(photo, photo.mask, crop, latents, 0)
    grown = {dilation: _masks(photo, photo.mask, crop, latents, dilation) for dilation in dilations}
    return View(latents=latents, mask=plain.whole, object_masks=plain.objects, grown=grown)


def _masks(photo: Photo, mask: Tensor, crop: Crop, latents: Tensor, dilation: int) -> Masks:
    """A photo's masks at latent size, grown by so many pixels before."""
    whole, *objects = (mask_to_latent(crop_mask(found, crop), latents.shape[-2], latents.shape[-1], dilation)
                       for found in (mask, *photo.object_masks))
    return Masks(whole, torch.cat(objects) if objects else None)
