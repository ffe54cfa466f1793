"""The shapes of a MODEL's latents: pixels per latent, and whether they have a dimension of frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor


def has_frames(model: Any) -> bool:
    """Whether ComfyUI's model takes latents (N, C, frames, h, w). A picture is one frame, which is left out in all of
    our own shapes."""
    return int(getattr(model.latent_format, "latent_dimensions", 2)) == 3


def pixels_per_latent(model: Any) -> int:
    """Pixels per latent of a MODEL, 1 to 64."""
    return int(getattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", 8))


def size_step(model: Any, pixels: int) -> int:
    """What width and height in pixels are multiples of: 8 where a latent is 8 pixels, whose networks pad to whole
    patches; otherwise a patch of latents.

    Args:
        pixels: per latent of the VAE.
    """
    patch = getattr(model.model, "PATCH_SIZE", getattr(model.model.diffusion_model, "patch_size", 1))
    side = int(patch if isinstance(patch, int) else patch[-1])
    return pixels if pixels == 8 else pixels * side


def in_model_space(model: Any, latents: Iterable[Tensor]) -> list[Tensor]:
    """Raw VAE latents (C, h, w) as the MODEL sees them."""
    return [batch_in_model_space(model, row[None])[0] for row in latents]


def batch_in_model_space(model: Any, latents: Tensor) -> Tensor:
    """Raw VAE latents (N, C, h, w) as the MODEL sees them, (N, C, h, w).

    A format with frames would broadcast latents of four dimensions to five without an error, so they are given five.
    """
    if has_frames(model.model):
        frames: Tensor = model.model.process_latent_in(latents[:, :, None].clone())
        return frames[:, :, 0]
    process: Tensor = model.model.process_latent_in(latents.clone())
    return process
