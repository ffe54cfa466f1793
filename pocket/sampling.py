"""A plain DDIM loop with classifier-free guidance: how the model card's figures are sampled, without ComfyUI."""

from __future__ import annotations

import torch

from .config import DOWNSCALE, LATENT_CHANNELS, SIZE, TIMESTEPS
from .generator import Generator, alphas_cumprod


@torch.no_grad()
def sample_latents(generator: Generator, captions: list[str], *, steps: int = 20, cfg_scale: float = 4.0,
                   seed: int = 0, negative: str = "") -> torch.Tensor:
    """One latent per caption, (B, C, 16, 16); deterministic DDIM (eta = 0) on evenly spaced timesteps.

    Source: Song et al. 2020 (DDIM), eq. 12; Ho and Salimans 2021, classifier-free guidance.
    """
    rng, abar, cells = torch.Generator().manual_seed(seed), alphas_cumprod(), SIZE // DOWNSCALE
    latents = torch.randn(len(captions), LATENT_CHANNELS, cells, cells, generator=rng)
    context = torch.cat([generator.encode([negative]).expand(len(captions), -1, -1), generator.encode(captions)])
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps + 1).round().long()
    for now, after in zip(timesteps[:-1], timesteps[1:], strict=True):
        t = now.expand(2 * len(captions))
        uncond, cond = generator.unet(latents.repeat(2, 1, 1, 1), t, context).sample.chunk(2)
        noise = uncond + cfg_scale * (cond - uncond)
        a, b = abar[now], abar[after]
        clean = (latents - (1 - a).sqrt() * noise) / a.sqrt()
        latents = b.sqrt() * clean + (1 - b).sqrt() * noise
    return latents
