"""A plain DDIM / ancestral loop with classifier-free guidance: how the model card's figures are sampled."""

from __future__ import annotations

import torch

from .config import DOWNSCALE, LATENT_CHANNELS, SIZE, TIMESTEPS
from .generator import Generator, alphas_cumprod


@torch.no_grad()
def sample_latents(generator: Generator, captions: list[str], *, steps: int = 25, cfg_scale: float = 3.0,
                   eta: float = 1.0, seed: int = 0, negative: str = "") -> torch.Tensor:
    """One latent per caption, (B, C, h, w), on evenly spaced timesteps.

    Args:
        eta: 1 is ancestral sampling (the fresh noise lets a small model correct itself), 0 deterministic DDIM.

    Source: Song et al. 2020 (DDIM), eqs. 12 and 16; Ho and Salimans 2021, classifier-free guidance.
    """
    rng, abar, cells = torch.Generator().manual_seed(seed), alphas_cumprod(), SIZE // DOWNSCALE
    latents = torch.randn(len(captions), LATENT_CHANNELS, cells, cells, generator=rng)
    context = torch.cat([generator.encode([negative]).expand(len(captions), -1, -1), generator.encode(captions)])
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps + 1).round().long()
    for i, now in enumerate(timesteps[:-1]):
        t = now.expand(2 * len(captions))
        uncond, cond = generator.unet(latents.repeat(2, 1, 1, 1), t, context).sample.chunk(2)
        noise = uncond + cfg_scale * (cond - uncond)
        a, b = abar[now], abar[timesteps[i + 1]] if i + 1 < steps else torch.tensor(1.0)
        clean = (latents - (1 - a).sqrt() * noise) / a.sqrt()
        fresh = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        latents = b.sqrt() * clean + (1 - b - fresh**2).clamp(min=0).sqrt() * noise
        latents = latents + fresh * torch.randn(latents.shape, generator=rng)
    return latents
