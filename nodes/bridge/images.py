"""Photos and masks from ComfyUI's sockets to the model's latents, encoded once per data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...core.data import Example
from ...core.errors import require
from ...core.objectives.masked import mask_to_latent
from ...core.runs import read_cache, write_cache
from ...core.subject import Photo, Subject


def center_square(image: Tensor) -> Tensor:
    """The largest centred square of (H, W, ...)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top:top + side, left:left + side]


def square_pixels(pixels: Tensor, size: int) -> Tensor:
    """Pixels (H, W, 3) in 0..1, cropped to the centre and resized with antialiasing: (size, size, 3)."""
    rows = center_square(pixels).float().movedim(-1, 0)[None]
    resized = functional.interpolate(rows, size=(size, size), mode="bicubic", antialias=True)
    return resized[0].movedim(0, -1).clamp(0, 1)


def square_mask(mask: Tensor, size: int) -> Tensor:
    """A mask (H, W) in 0..1, cropped as its photo and area-averaged: (size, size)."""
    square = center_square(mask).float()[None, None]
    return functional.interpolate(square, size=(size, size), mode="bilinear", antialias=True)[0, 0].clamp(0, 1)


def data_hash(subjects: Iterable[Subject]) -> str:
    """A digest of every photo, mask and caption, in order."""
    digest = hashlib.blake2b(digest_size=20)
    for subject in subjects:
        for text in (subject.identifier, subject.class_noun, subject.caption_template):
            digest.update(f"{len(text)}:{text}".encode())
        for photo in subject.photos:
            digest.update(photo_hash(photo).encode())
    return digest.hexdigest()


def photo_hash(photo: Photo) -> str:
    """A digest of one photo's pixels and mask."""
    digest = hashlib.blake2b(digest_size=20)
    for tensor in (photo.pixels, photo.mask):
        digest.update(b"none" if tensor is None else str(tuple(tensor.shape)).encode() + tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The tensor's values as float32 bytes."""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()


def encode_photos(vae: Any, subjects: Sequence[Subject], size: int, root: Path, vae_hash: str) -> Tensor:
    """Raw VAE latents of all photos (N, C, h, w), from the run store's cache where these photos were encoded before.

    Raises:
        InputError: when the VAE gives NaN.
    """
    photos = [photo for subject in subjects for photo in subject.photos]
    pixels = (hashlib.blake2b(tensor_bytes(photo.pixels)).hexdigest() for photo in photos)
    text = "/".join([vae_hash, str(size), *pixels])
    digest = "latents-" + hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
    cached = read_cache(root, digest)
    if cached is not None:
        return cached["latents"]
    latents = torch.cat([encode_photo(vae, photo, size) for photo in photos])
    write_cache(root, digest, {"latents": latents})
    return latents


def encode_photo(vae: Any, photo: Photo, size: int) -> Tensor:
    """Raw VAE latents (1, C, h, w) of one photo."""
    with torch.inference_mode(False), torch.no_grad():
        latents = vae.encode(square_pixels(photo.pixels, size)[None]).float().clone()
    require(latents.ndim == 4, "vae", f"latents of {latents.ndim} dimensions", "an image VAE",
            "Connect the model's own VAE.")
    require(bool(latents.isfinite().all()), "vae", "NaN latents", "finite latents",
            "Start ComfyUI with --fp32-vae or --bf16-vae: the SDXL VAE overflows in fp16.")
    return latents


def make_examples(
    model: Any, subjects: Sequence[Subject], latents: Tensor, size: int, dilation: int = 0
) -> tuple[Example, ...]:
    """One example per photo, in the model's latent space; masks at latent size, grown by `dilation` pixels before."""
    photos = [(subject, photo) for subject in subjects for photo in subject.photos]
    height, width = latents.shape[-2:]
    scaled = model.model.process_latent_in(latents)
    return tuple(
        Example(
            latents=row, caption=subject.caption, object_caption=subject.object_caption, class_noun=subject.class_noun,
            identifier=subject.identifier, photo=number,
            mask=None if photo.mask is None
            else mask_to_latent(square_mask(photo.mask, size), height, width, dilation),
        )
        for number, ((subject, photo), row) in enumerate(zip(photos, scaled, strict=True))
    )
