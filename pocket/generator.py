"""The generator: text encoder and denoiser, trained together on latents of the endless world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .config import CELLS, CHANNEL_MULT
from .diffusion import add_noise, alphas_cumprod, sample, spread_timesteps, velocity
from .drawing import render
from .grounding import grounding_loss, noun_targets
from .looks import SEEDS
from .scenes import training_scene
from .text import TextEncoder
from .tokens import vocabulary
from .unet import UNet, cross_attentions

CAPTION_DROPOUT: Final = 0.1
OBJECT_BOOST: Final = 3.0
"""Extra weight of cells that things cover: places are learned long before shapes."""
SNR_LIMIT: Final = 5.0
GROUNDING: Final = 0.05
"""Weight of the attention's loss beside the denoising loss."""
REDRAWN: Final = 0.65
"""Share of the pictures of a single thing that give way to another picture, so that half of what is seen holds two or
three things: small things in company are learned last."""
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

    def attended(self, noisy: Tensor, timesteps: Tensor, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Velocity as `forward` gives it, and the probabilities of each cross-attention."""
        watched = cross_attentions(self.unet)
        for attention in watched:
            attention.watch = []
        predicted = self(noisy, timesteps, rows)
        maps = [attention.watch[0] for attention in watched if attention.watch]
        for attention in watched:
            attention.watch = None
        return predicted, maps

    def draw(self, captions: list[str], *, steps: int = 25, cfg_scale: float = 3.0, eta: float = 1.0,
             seed: int = 0) -> Tensor:
        """One latent per caption, (B, 16, 12, 12)."""
        with torch.no_grad():
            prompt, negative = self.text.encode(captions), self.text.encode([""])
        return sample(self.unet, prompt, negative, steps=steps, cfg_scale=cfg_scale, eta=eta, seed=seed)


Attended = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, list[Tensor]]]


class Batch(NamedTuple):
    """What one step sees."""

    pictures: Tensor
    """(B, 3, 96, 96) uint8."""
    cover: Tensor
    """(B, 1, 12, 12): the share of each cell that things cover."""
    rows: Tensor
    """(B, 77) compact token rows; those of the empty caption where it was dropped."""
    places: Tensor
    """(B, 3) token positions of the nouns, 0 where there is none; see `grounding.noun_targets`."""
    shares: Tensor
    """(B, 3, 12, 12): the share of each cell that the noun's thing covers."""


def generator_batch(number: int, batch: int, redrawn: float = REDRAWN) -> Batch:
    """Pictures number * batch and following of the training range, a tenth of them without their captions.

    Args:
        redrawn: share of single things in whose place a picture from the range's other half is taken; 0 leaves the
            world as it is.
    """
    rng, words = np.random.default_rng([number, 5]), vocabulary()
    half = len(SEEDS["train"]) // 2
    first = SEEDS["train"].start + number * batch % (half - batch)
    is_redrawn = np.random.default_rng([number, 6]).random(batch) < redrawn
    scenes = [training_scene(seed) for seed in range(first, first + batch)]
    scenes = [training_scene(scene.seed + half) if redraw and len(scene.things) == 1 else scene
              for scene, redraw in zip(scenes, is_redrawn, strict=True)]
    drawn = [render(scene) for scene in scenes]
    step = drawn[0][1].shape[0] // CELLS
    cover = [(labels > 0).reshape(CELLS, step, CELLS, step).mean((1, 3), dtype=np.float32) for _, labels in drawn]
    dropped = rng.random(batch) < CAPTION_DROPOUT
    rows = [words.encode("" if drop else scene.caption) for scene, drop in zip(scenes, dropped, strict=True)]
    targets = [noun_targets(scene, row, labels)
               for scene, row, (_, labels) in zip(scenes, rows, drawn, strict=True)]
    return Batch(torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2).contiguous(),
                 torch.from_numpy(np.stack(cover))[:, None], torch.from_numpy(np.stack(rows)),
                 *(torch.from_numpy(np.stack(parts)) for parts in zip(*targets, strict=True)))


class Losses(NamedTuple):
    """What a step learns from."""

    denoising: Tensor
    grounding: Tensor

    def total(self) -> Tensor:
        return self.denoising + GROUNDING * self.grounding


def generator_losses(attended: Attended, latents: Tensor, batch: Batch, noise: Tensor,
                     generator: torch.Generator) -> Losses:
    """mean of min(1, 5 / (SNR + 1)) c |v - v_theta|^2, c the cell's weight; and the nouns' attention.

    Args:
        attended: `Generator.attended`, perhaps compiled.
        latents: of the batch's P pictures.
        noise: (k P, 16, h, w): each picture is seen k times.

    In terms of x0 the first is min(SNR + 1, 5): min-SNR weighting (Hang et al. 2023) that keeps plain velocity loss at
    high noise, where a caption decides the layout. The second weighs sqrt(abar): in noise there is nothing to find.
    """
    each = len(noise) // len(latents)
    latents, cover = (x.repeat_interleave(each, dim=0) for x in (latents, batch.cover))
    timesteps = spread_timesteps(len(latents), generator, latents.device, each)
    abar = alphas_cumprod().to(latents.device)[timesteps].view(-1, 1, 1, 1)
    predicted, maps = attended(add_noise(latents, noise, abar), timesteps, batch.rows)
    weight = (SNR_LIMIT * (1 - abar)).clamp(max=1)  # SNR + 1 = 1 / (1 - abar)
    cells = 1 + OBJECT_BOOST * cover
    error = (predicted.float() - velocity(latents, noise, abar)).square()
    return Losses((weight * cells / cells.mean() * error).mean(),
                  grounding_loss(maps, batch.places, batch.shares, abar.sqrt().view(-1, each)))
