"""What the pocket upscaler sees: blocks of 4 x 4 pixels as 24 channels at the low-res picture's own size.

Stable Diffusion's x4 upscaler works at a quarter of the picture's size, because its VAE divides by four, and reads the
low-res picture beside its latents. Here a cosine transform of the blocks takes the VAE's place, of which the strongest
half is kept (34.5 dB on the world at 96 pixels): nothing to train, no weight in the file, the same sizes everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

SCALE: Final = 4
"""How many times larger the picture becomes, and pixels per latent cell."""
LATENT_CHANNELS: Final = 24
"""Of the 48 coefficients of a block."""
LOW_RES_CHANNELS: Final = 3

MODEL_CHANNELS: Final = 64
CHANNEL_MULT: Final = (1, 1)
NUM_RES_BLOCKS: Final = 1
ATTENTION_LEVELS: Final = (False, True)
CONTEXT_DIM: Final = 128
"""The pocket text encoder's width."""
NUM_HEAD_CHANNELS: Final = 32
NOISE_LEVELS: Final = 351
"""ComfyUI's noise augmentation has the levels 0..350."""

BETA_START: Final = 0.0001
BETA_END: Final = 0.02
"""The x4 upscaler's scaled-linear schedule, for the latents as for the low-res picture's noise."""

SPATIAL_DEVIATION: Final = ((3.80, 0.46, 0.21, 0.13), (0.46, 0.17, 0.10, 0.07), (0.21, 0.10, 0.07, 0.05),
                            (0.13, 0.07, 0.05, 0.04))
COLOUR_DEVIATION: Final = (1.0, 0.54, 0.27)
"""Deviation of a coefficient over 300 pictures of the world, about the product of the two (pixels in -1..1)."""
GAIN_POWER: Final = 0.4
"""A coefficient of deviation s leaves with s^GAIN_POWER: coarse before fine, but the fine not below the noise."""


def cosine_basis(n: int) -> Tensor:
    """The orthonormal DCT-II matrix (n, n), frequencies in rows."""
    k, x = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64) + 0.5
    basis = torch.cos(torch.pi * k * x / n) * (2 / n) ** 0.5
    basis[0] /= 2**0.5
    return basis


@cache
def analysis() -> tuple[Tensor, Tensor]:
    """Orthonormal cosines over colour, y and x in rows (24, 48), and the gain of each (24,); the strongest first."""
    space, colour = cosine_basis(SCALE), cosine_basis(3)
    rows = torch.einsum("cd,uy,vx->cuvdyx", colour, space, space).reshape(3 * SCALE**2, 3 * SCALE**2)
    deviation = (torch.tensor(COLOUR_DEVIATION)[:, None, None] * torch.tensor(SPATIAL_DEVIATION)).flatten().double()
    kept = deviation.sort(descending=True, stable=True).indices[:LATENT_CHANNELS]
    gain = deviation[kept] ** (GAIN_POWER - 1)
    return rows[kept], gain / (gain * deviation[kept]).square().mean().sqrt()  # unit mean square over the channels


def pictures_to_latents(pictures: Tensor) -> Tensor:
    """(B, 3, 4 h, 4 w) in -1..1 -> (B, 24, h, w) of about unit size.

    Raises:
        ValueError: sides are not multiples of 4.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] % SCALE or pictures.shape[3] % SCALE:
        raise ValueError(f"pictures: got shape {tuple(pictures.shape)}, expected (B, 3, H, W) with sides that are "
                         f"multiples of {SCALE}. Crop the pictures.")
    basis, gain = analysis()
    blocks = functional.pixel_unshuffle(pictures, SCALE)  # channels colour, y, x
    return torch.einsum("kc,bchw->bkhw", (gain[:, None] * basis).to(blocks), blocks)


def latents_to_pictures(latents: Tensor) -> Tensor:
    """The least-squares inverse, (B, 24, h, w) -> (B, 3, 4 h, 4 w)."""
    basis, gain = analysis()
    blocks = torch.einsum("kc,bkhw->bchw", (basis / gain[:, None]).to(latents), latents)
    return functional.pixel_shuffle(blocks, SCALE)


def low_res(pictures: Tensor) -> Tensor:
    """(B, 3, 4 h, 4 w) -> (B, 3, h, w), bicubic with antialiasing, as photos are made smaller elsewhere here."""
    size = (pictures.shape[-2] // SCALE, pictures.shape[-1] // SCALE)
    return functional.interpolate(pictures, size=size, mode="bicubic", antialias=True).clamp(-1, 1)


def unet_settings() -> dict[str, Any]:
    """Arguments of diffusers' UNet2DConditionModel."""
    channels = tuple(MODEL_CHANNELS * m for m in CHANNEL_MULT)
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in ATTENTION_LEVELS)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(ATTENTION_LEVELS))
    return {
        "in_channels": LATENT_CHANNELS + LOW_RES_CHANNELS, "out_channels": LATENT_CHANNELS,
        "block_out_channels": channels, "layers_per_block": NUM_RES_BLOCKS, "down_block_types": down,
        "up_block_types": up, "cross_attention_dim": CONTEXT_DIM, "norm_num_groups": 32,
        "attention_head_dim": tuple(c // NUM_HEAD_CHANNELS for c in channels), "num_class_embeds": NOISE_LEVELS,
        "resnet_time_scale_shift": "scale_shift",
    }
