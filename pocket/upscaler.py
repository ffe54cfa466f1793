"""How is the x4 upscaler trained? On pictures of the world at three sizes.

Velocity prediction on (low-res, high-res) pairs. It reads no text: its contexts are noise, so that it goes with any
weights of the text encoder. Needs diffusers beside torch.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import MAX_TOKENS, TIMESTEPS
from .diffusion import add_noise, clean_estimate, velocity
from .drawing import render
from .looks import SEEDS
from .scenes import training_scene
from .upscaler_network import (
    OUTPUT_SCALE,
    alphas_cumprod,
    build_unet,
    rename_unet,
    scale_output,
    start_from_low_res,
)
from .upscaler_space import (
    CONTEXT_DIM,
    LOW_RES_CHANNELS,
    NOISE_LEVELS,
    SCALE,
    latents_to_pictures,
    low_res,
    pictures_to_latents,
)

SHARES: Final = ((96, 8, 1), (192, 2, 2), (384, 1, 4))
"""Of 16 crops: picture size, scenes, crops of each; scenes are then seen from 24 to 96 low-res pixels wide."""
CROP, LARGE_CROP, LARGE_EVERY = 64, 96, 5
LEAST_WEIGHT: Final = 0.2


def upscaler_batch(number: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Crops of scenes of the upscaler's own range: latents (B, 24, h, w), low-res (B, 3, h, w), noise level (B,).

    Low-res pictures are made of whole ones, so that crops have no borders. `batch` is rounded to multiples of 16.
    """
    rng, times = np.random.default_rng([number, 7]), max(1, batch // 16)
    crop = LARGE_CROP if number % LARGE_EVERY == LARGE_EVERY - 1 else CROP
    seed = SEEDS["upscaler"].start + number * times * sum(scenes for _, scenes, _ in SHARES)
    high, low = [], []
    for size, scenes, crops in SHARES * times:
        for _ in range(scenes):
            picture = _picture(seed, size)
            seed, small = seed + 1, low_res(picture)
            for y, x in rng.integers(0, (size - crop) // SCALE + 1, (crops, 2)):
                high.append(picture[..., y * SCALE:y * SCALE + crop, x * SCALE:x * SCALE + crop])
                low.append(small[..., y:y + crop // SCALE, x:x + crop // SCALE])
    level = torch.from_numpy((rng.random(len(low)) ** 4 * NOISE_LEVELS).astype(np.int64))  # mostly low levels
    return pictures_to_latents(torch.cat(high)), torch.cat(low), level


def _picture(seed: int, size: int) -> Tensor:
    return torch.from_numpy(render(training_scene(seed), size)[0].copy()).permute(2, 0, 1)[None] / 127.5 - 1


def new_upscaler() -> nn.Module:
    """The network, which answers with the linear guess from the low-res picture at first."""
    torch.manual_seed(0)
    unet = build_unet()
    start_from_low_res(unet, *linear_guess())
    return unet


def linear_guess() -> tuple[Tensor, Tensor]:
    """The least-squares guess of a latent from the 3 x 3 low-res pixels around it: weight (24, 3, 3, 3), bias (24,)."""
    batches = [upscaler_batch(LARGE_EVERY * (number + 1) - 1, 16) for number in range(4)]  # of large crops
    patches = torch.cat([functional.unfold(low, 3).transpose(1, 2) for _, low, _ in batches])  # (B, cells, 27)
    inside = torch.cat([latents[..., 1:-1, 1:-1].flatten(2).transpose(1, 2) for latents, _, _ in batches])
    design = torch.cat([patches, torch.ones(*patches.shape[:2], 1)], -1).flatten(0, 1)
    solution = torch.linalg.lstsq(design.double(), inside.flatten(0, 1).double(), driver="gelsd").solution.T.float()
    return solution[:, :-1].reshape(-1, LOW_RES_CHANNELS, 3, 3), solution[:, -1]


def predict(unet: nn.Module, noisy: Tensor, timesteps: Tensor, low: Tensor, level: Tensor,
            draws: torch.Generator) -> Tensor:
    """The velocity, from noisy latents and a low-res picture with the noise of its level."""
    device, rows = noisy.device, len(noisy)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draws, device=device)

    own = torch.rand(rows, 1, 1, generator=draws, device=device) * normal(rows, MAX_TOKENS, CONTEXT_DIM)
    abar = alphas_cumprod().to(device)[level].view(-1, 1, 1, 1)
    seen = torch.cat([noisy, add_noise(low, normal(*low.shape), abar)], 1)
    return unet(seen, timesteps, normal(rows, 1, CONTEXT_DIM) + own, class_labels=level).sample


def upscaler_loss(unet: nn.Module, batch: tuple[Tensor, Tensor, Tensor], draws: torch.Generator) -> Tensor:
    """mean of max(0.2, 1 - abar) |v - v_theta|^2, on timesteps spread over the schedule."""
    latents, low, level = batch
    rows, device = len(latents), latents.device
    offset = torch.rand(1, generator=draws, device=device)
    timesteps = ((offset + torch.arange(rows, device=device) / rows) % 1 * TIMESTEPS).long()
    abar = alphas_cumprod().to(device)[timesteps].view(-1, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=draws, device=device)
    predicted = predict(unet, add_noise(latents, noise, abar), timesteps, low, level, draws).float()
    error = predicted - velocity(latents, noise, abar)
    return ((1 - abar).clamp(min=LEAST_WEIGHT) * error.square()).mean()


@torch.no_grad()
def upscaler_decibels(unet: nn.Module, batch: tuple[Tensor, Tensor, Tensor], draws: torch.Generator,
                      timestep: int = 700) -> tuple[float, float]:
    """PSNR of the one-step estimate from half-noised latents, and of bicubic enlargement, on the same crops."""
    latents, low, level = batch
    abar = alphas_cumprod().to(latents.device)[timestep].view(1, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=draws, device=latents.device)
    noisy = add_noise(latents, noise, abar)
    steps = torch.full((len(latents),), timestep, device=latents.device)
    predicted = predict(unet, noisy, steps, low, torch.zeros_like(level), draws).float()
    truth = latents_to_pictures(latents)
    bicubic = functional.interpolate(low, scale_factor=SCALE, mode="bicubic")
    estimate = latents_to_pictures(clean_estimate(noisy, predicted, abar))
    return _decibels(estimate, truth), _decibels(bicubic, truth)


def _decibels(guess: Tensor, truth: Tensor) -> float:
    """Mean PSNR of pictures in -1..1."""
    return float((-10 * ((guess - truth).square() / 4).mean((1, 2, 3)).log10()).mean())


def upscaler_tensors(unet: nn.Module) -> dict[str, Tensor]:
    """The checkpoint under ComfyUI's keys, float16, with the mark that makes its VAE hand pictures on unchanged.

    The network's last weights are changed: do not go on with it.
    """
    scale_output(unet, OUTPUT_SCALE)
    state = rename_unet(unet.state_dict())
    tensors = {key: tensor.detach().cpu().to(torch.float16).contiguous() for key, tensor in state.items()}
    return tensors | {"first_stage_model.pixel_space_vae": torch.tensor(1.0, dtype=torch.float16)}
