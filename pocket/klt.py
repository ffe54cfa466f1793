"""The encoder in closed form: the Karhunen-Loeve transform of 8 x 8 blocks, written into TAESD's weights.

Sixteen principal components of a block already keep 27 dB of the world and more of photos, need no training, cost
one matrix product, and give latents that are smooth in the picture. So the encoder is computed, not trained, and
is frozen from the first minute; only the decoder, which must guess what the transform drops, learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .config import DOWNSCALE, LATENT_CHANNELS
from .taesd import WIDTH, Block, Encoder
from .textures import texture
from .world import render, training_scene

WORLD_SHARE = 0.7
"""Weight of the world's block covariance; the rest is generic texture."""
GAIN_POWER = 0.4
"""A component of deviation s leaves with s^GAIN_POWER: between pixels (1: coarse first) and whitening (0)."""
FIT_SIZE = 128
"""Size of the world pictures whose blocks are counted; fixed, because the encoder must never change again."""
VAE_SCALE = 0.25
"""Raw encoder output per unit of model latent: keeps the decoder's soft clamp in its linear part."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """z = gain * (basis^T (block - mean)); blocks are flattened as (row, column, channel)."""

    mean: torch.Tensor
    """(192,)"""
    basis: torch.Tensor
    """(192, C), orthonormal columns."""
    gain: torch.Tensor
    """(C,): latents then have unit mean square over the mix of pictures."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) in [0, 1] -> model latents (B, C, H/8, W/8); equals `taesd_encoder` up to rounding."""
        b, h, w, _ = pictures.shape
        z = (blocks_of(pictures) - self.mean) @ self.basis * self.gain
        return z.reshape(b, h // DOWNSCALE, w // DOWNSCALE, -1).permute(0, 3, 1, 2).contiguous()

    def decode_linear(self, latents: torch.Tensor) -> torch.Tensor:
        """The linear least-squares inverse, (B, C, h, w) -> (B, 8h, 8w, 3)."""
        b, _, h, w = latents.shape
        x = (latents.permute(0, 2, 3, 1) / self.gain) @ self.basis.T + self.mean
        x = x.reshape(b, h, w, DOWNSCALE, DOWNSCALE, 3).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(b, h * DOWNSCALE, w * DOWNSCALE, 3)


def blocks_of(pictures: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) -> (B * H/8 * W/8, 192)."""
    b, h, w, c = pictures.shape
    cells = pictures.reshape(b, h // DOWNSCALE, DOWNSCALE, w // DOWNSCALE, DOWNSCALE, c)
    return cells.permute(0, 1, 3, 2, 4, 5).reshape(-1, DOWNSCALE * DOWNSCALE * c)


def moments(pictures: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (192,) and second moment (192, 192) of the blocks of uint8 pictures."""
    x = torch.cat([blocks_of(torch.from_numpy(p.astype(np.float64))[None] / 255) for p in pictures])
    return x.mean(0), x.T @ x / len(x)


def fit_transform(world_pictures: int = 1500, textures: int = 3000) -> Transform:
    """Principal components of the mixed block covariance, with gains s^(power - 1), scaled to unit mean square."""
    world = moments([render(training_scene(i), FIT_SIZE)[0] for i in range(world_pictures)])
    generic = moments([texture(i, 64) for i in range(textures)])
    mean, second = (WORLD_SHARE * a + (1 - WORLD_SHARE) * b for a, b in zip(world, generic, strict=True))
    variances, vectors = torch.linalg.eigh(second - torch.outer(mean, mean))
    deviation, basis = variances.flip(0)[:LATENT_CHANNELS].sqrt(), vectors.flip(1)[:, :LATENT_CHANNELS]
    basis = basis * basis.sum(0).sign()  # the sign of an eigenvector is free: fix it
    shaped = deviation**GAIN_POWER
    gain = shaped / deviation / shaped.square().mean().sqrt()
    return Transform(mean=mean.float(), basis=basis.float(), gain=gain.float())


def build_encoder(transform: Transform) -> Encoder:
    """Writes the transform into TAESD's encoder: three space-to-depth steps, the last one projecting.

    Signals stay non-negative up to the projection (pictures are in [0, 1]), so every ReLU is the identity; the
    projection leaves as pairs (relu(y), relu(-y)), which the last convolution subtracts.
    """
    encoder = Encoder(LATENT_CHANNELS)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
        for c in range(3):
            encoder[0].weight[c, c, 1, 1] = 1
        write_space_to_depth(encoder[2].weight, 3)
        write_space_to_depth(encoder[6].weight, 12)
        # Channel order after two steps is (dy1, dx1, dy0, dx0, c): sort the pixels of a 4 x 4 cell accordingly.
        pixels = transform.basis.reshape(2, 2, 2, 2, 2, 2, 3, LATENT_CHANNELS)  # y2 y1 y0 x2 x1 x0 c
        pixels = pixels.permute(0, 3, 1, 4, 2, 5, 6, 7)  # y2 x2 y1 x1 y0 x0 c
        for dy in range(2):
            for dx in range(2):
                taps = pixels[dy, dx].reshape(48, LATENT_CHANNELS).T
                encoder[10].weight[:LATENT_CHANNELS, :48, 1 + dy, 1 + dx] = taps
                encoder[10].weight[LATENT_CHANNELS:2 * LATENT_CHANNELS, :48, 1 + dy, 1 + dx] = -taps
        gain = transform.gain * VAE_SCALE
        for c in range(LATENT_CHANNELS):
            encoder[14].weight[c, c, 1, 1] = gain[c]
            encoder[14].weight[c, LATENT_CHANNELS + c, 1, 1] = -gain[c]
        encoder[14].bias.copy_(-gain * (transform.mean @ transform.basis))
    assert all(isinstance(encoder[i], Block) for i in (1, 3, 7, 11)) and WIDTH >= 48
    return encoder.eval().requires_grad_(False)


def write_space_to_depth(weight: torch.Tensor, channels: int) -> None:
    """A stride-2 kernel whose output channel (dy, dx, c) is input channel c at pixel (2i + dy, 2j + dx)."""
    for dy in range(2):
        for dx in range(2):
            for c in range(channels):
                weight[(dy * 2 + dx) * channels + c, c, 1 + dy, 1 + dx] = 1


def save_transform(transform: Transform, path: str) -> None:
    """Writes the three tensors."""
    torch.save({"mean": transform.mean, "basis": transform.basis, "gain": transform.gain}, path)


def load_transform(path: str) -> Transform:
    """Reads what `save_transform` wrote."""
    return Transform(**torch.load(path, weights_only=True))
