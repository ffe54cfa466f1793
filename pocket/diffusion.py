"""The noise schedule, the velocity, and the two samplers by which figures are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from .config import BETA_END, BETA_START, CELLS, LATENT_CHANNELS, TIMESTEPS

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(latents, timesteps, prompt) -> velocity."""


@cache
def alphas_cumprod() -> Tensor:
    """abar of SD's scaled-linear schedule, (1000,)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def add_noise(latents: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """sqrt(abar) x0 + sqrt(1 - abar) eps; abar (B, 1, 1, 1)."""
    return abar.sqrt() * latents + (1 - abar).sqrt() * noise


def velocity(latents: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """v = sqrt(abar) eps - sqrt(1 - abar) x0. Source: Salimans and Ho 2022, appendix D."""
    return abar.sqrt() * noise - (1 - abar).sqrt() * latents


def clean_estimate(noisy: Tensor, predicted: Tensor, abar: Tensor) -> Tensor:
    """x0 = sqrt(abar) x - sqrt(1 - abar) v."""
    return abar.sqrt() * noisy - (1 - abar).sqrt() * predicted


def spread_timesteps(count: int, generator: torch.Generator, device: torch.device, each: int = 1) -> Tensor:
    """Timesteps spread evenly over the schedule with one random offset: less variance than independent ones.

    Args:
        each: so many in a row belong to one picture, and lie as far apart as can be.
    """
    offset = torch.rand(1, generator=generator, device=device)
    spread = ((offset + torch.arange(count, device=device) / count) % 1 * TIMESTEPS).long()
    return spread.view(each, -1).T.flatten()


@torch.no_grad()
def sample(denoiser: Denoiser, prompt: Tensor, negative: Tensor, *, steps: int = 25, cfg_scale: float = 3.0,
           eta: float = 1.0, seed: int = 0) -> Tensor:
    """One latent per prompt, (B, 16, 12, 12), on evenly spaced timesteps.

    Args:
        prompt: (B, 77, 128); negative: (1 or B, 77, 128).
        eta: 1 is ancestral sampling, 0 deterministic DDIM.

    Source: Song et al. 2020 (DDIM), eqs. 12 and 16; Ho and Salimans 2021, classifier-free guidance.
    """
    device, count = prompt.device, len(prompt)
    generator, abar = torch.Generator().manual_seed(seed), alphas_cumprod()
    shape = (count, LATENT_CHANNELS, CELLS, CELLS)
    latents = torch.randn(shape, generator=generator).to(device)
    context = torch.cat([negative.expand(count, -1, -1), prompt])
    timesteps = torch.linspace(TIMESTEPS - 1, 0, steps + 1).round().long()
    for i, now in enumerate(timesteps[:-1]):
        a, b = abar[now], abar[timesteps[i + 1]] if i + 1 < steps else torch.tensor(1.0)
        t = now.expand(2 * count).to(device)
        uncond, cond = denoiser(latents.repeat(2, 1, 1, 1), t, context).float().chunk(2)
        v = uncond + cfg_scale * (cond - uncond)
        clean = clean_estimate(latents, v, a)
        noise = (1 - a).sqrt() * latents + a.sqrt() * v
        fresh = eta * ((1 - b) / (1 - a) * (1 - a / b)).clamp(min=0).sqrt()
        latents = b.sqrt() * clean + (1 - b - fresh**2).clamp(min=0).sqrt() * noise
        latents = latents + fresh * torch.randn(shape, generator=generator).to(device)
    return latents
