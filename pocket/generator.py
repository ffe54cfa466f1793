"""The generator: text encoder and denoiser, trained together on latents of the endless world."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .config import CELLS, CHANNEL_MULT
from .diffusion import add_noise, alphas_cumprod, sample, spread_timesteps, velocity
from .drawing import render
from .looks import SEEDS
from .scenes import training_scene
from .text import TextEncoder
from .tokens import vocabulary
from .unet import UNet

CAPTION_DROPOUT: Final = 0.1
OBJECT_BOOST: Final = 3.0
"""Extra weight of cells that things cover: places are learned long before shapes."""
SNR_LIMIT: Final = 5.0
NOISES: Final = 2
"""How often a step sees each of its pictures, at timesteps far apart: drawn, encoded and read once."""


class Generator(nn.Module):
    """`text` and `unet`; `mult` makes a smaller one for comparisons."""

    def __init__(self, mult: tuple[int, ...] = CHANNEL_MULT) -> None:
        super().__init__()
        self.text, self.unet = TextEncoder(), UNet(mult)

    def forward(self, noisy: Tensor, timesteps: Tensor, rows: Tensor) -> Tensor:
        """Velocity from noisy latents (B, 16, h, w) and compact token rows (B or B / k, 77), each for k in a row."""
        return self.unet(noisy, timesteps, self.text(rows))

    def draw(self, captions: list[str], *, steps: int = 25, cfg_scale: float = 3.0, eta: float = 1.0,
             seed: int = 0) -> Tensor:
        """One latent per caption, (B, 16, 12, 12)."""
        with torch.no_grad():
            prompt, negative = self.text.encode(captions), self.text.encode([""])
        return sample(self.unet, prompt, negative, steps=steps, cfg_scale=cfg_scale, eta=eta, seed=seed)


class Batch(NamedTuple):
    """What one step sees."""

    pictures: Tensor
    """(B, 3, 96, 96) uint8."""
    cover: Tensor
    """(B, 1, 12, 12): the share of each cell that things cover."""
    rows: Tensor
    """(B, 77) compact token rows; those of the empty caption where it was dropped."""


def generator_batch(number: int, batch: int) -> Batch:
    """Pictures number * batch and following of the training range, a tenth of them without their captions."""
    rng, words = np.random.default_rng([number, 5]), vocabulary()
    first = SEEDS["train"].start + number * batch % (len(SEEDS["train"]) - batch)
    scenes = [training_scene(seed) for seed in range(first, first + batch)]
    drawn = [render(scene) for scene in scenes]
    step = drawn[0][1].shape[0] // CELLS
    cover = [(labels > 0).reshape(CELLS, step, CELLS, step).mean((1, 3), dtype=np.float32) for _, labels in drawn]
    dropped = rng.random(batch) < CAPTION_DROPOUT
    rows = [words.encode("" if drop else scene.caption) for scene, drop in zip(scenes, dropped, strict=True)]
    return Batch(torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2).contiguous(),
                 torch.from_numpy(np.stack(cover))[:, None], torch.from_numpy(np.stack(rows)))


def denoising_loss(network: nn.Module, latents: Tensor, cover: Tensor, rows: Tensor, noise: Tensor,
                   generator: torch.Generator) -> Tensor:
    """mean of min(1, 5 / (SNR + 1)) c |v - v_theta|^2, c the cell's weight.

    Args:
        latents, cover, rows: of P pictures.
        noise: (k P, 16, h, w): each picture is seen k times.

    In terms of x0 that is min(SNR + 1, 5): min-SNR weighting (Hang et al. 2023) that keeps plain velocity loss at high
    noise, where a caption decides the layout.
    """
    each = len(noise) // len(latents)
    latents, cover = (x.repeat_interleave(each, dim=0) for x in (latents, cover))
    timesteps = spread_timesteps(len(latents), generator, latents.device, each)
    abar = alphas_cumprod().to(latents.device)[timesteps].view(-1, 1, 1, 1)
    predicted = network(add_noise(latents, noise, abar), timesteps, rows).float()
    weight = (SNR_LIMIT * (1 - abar)).clamp(max=1)  # SNR + 1 = 1 / (1 - abar)
    cells = 1 + OBJECT_BOOST * cover
    error = (predicted - velocity(latents, noise, abar)).square()
    return (weight * cells / cells.mean() * error).mean()
