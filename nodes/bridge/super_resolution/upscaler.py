"""Stable Diffusion's x4 upscaler as something that can be trained and asked: a denoiser that reads a low-res picture.

The low-res picture's channels go beside the noisy latents, and its noise level into the class embedding, as ComfyUI's
`SD_X4Upscaler` has them at sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ....core.data.low_res_pairs import SCALE
from ....core.errors import require
from ....core.learning.adapter import AdapterConfig
from ....core.model.contracts import Conditioning, concat_rows
from ....core.objectives.super_resolution import LOW_VARIANCE, USUAL_VARIANCE, SuperResolution
from ..model.denoiser import ComfyDenoiser
from ..model.families import family_of
from ..model.gradients import training_dtype, training_options
from ..sampling.sampling import conditioning

LOW, USUAL, NONE = "low (paper)", "usual", "none = no fine-tuning"
NOISES = (LOW, USUAL, NONE)


class UpscalerDenoiser(ComfyDenoiser):
    """`core.model.contracts.Denoiser` over a loaded upscaler.

    Args:
        model: the MODEL's patcher, loaded.
        level: what the noise-level embedding is told.
    """

    def __init__(self, model: Any, level: int):
        super().__init__(model, size=0)
        self.level = level

    def __call__(self, noisy: Tensor, index: Tensor, rows: Sequence[Conditioning]) -> Tensor:
        context, _, pictures = concat_rows(rows)
        if pictures is None:
            raise ValueError("concat: got None, expected the low-res picture of every row")
        dtype = training_dtype(self.model)
        channels = torch.cat([noisy, pictures.to(noisy)], dim=1).to(self.device, dtype)
        timestep = self.schedule.timesteps.to(self.device)[index.to(self.device)]
        level = torch.full((len(noisy),), self.level, device=self.device)
        output = self.module(channels, timestep, context=context.to(self.device, dtype), y=level,
                             control=None, transformer_options=training_options())
        return output.float()


def is_upscaler(model: Any) -> bool:
    """Whether the MODEL is Stable Diffusion's x4 upscaler, or one of its structure."""
    return family_of(model).is_upscaler


def check_upscaler(model: Any, vae: Any) -> None:
    """Raise `InputError` unless MODEL is an upscaler and VAE its own, before anything is loaded."""
    require(is_upscaler(model), "model", f"a {type(model.model.model_config).__name__} model",
            "Stable Diffusion's x4 upscaler", "Load the upscaler's checkpoint, such as x4-upscaler-ema.safetensors.")
    require(getattr(vae, "first_stage_model", None) is not None, "vae", "nothing", "the VAE of the upscaler",
            "Connect the VAE output of the upscaler's checkpoint loader.")
    ratio = vae.downscale_ratio if isinstance(vae.downscale_ratio, int) else 8
    channels = model.get_model_object("latent_format").latent_channels
    got = f"a VAE of {vae.latent_channels} channels at 1/{ratio}"
    fix = "Connect the VAE of the upscaler's own checkpoint: other Stable Diffusion VAEs divide by 8."
    require(ratio in (1, SCALE), "vae", got, f"the upscaler's VAE, which divides by {SCALE}", fix)
    try:
        with torch.inference_mode(False):
            cells = model.model.process_latent_in(torch.zeros(1, vae.latent_channels, 64 // ratio, 64 // ratio)).shape
    except (ValueError, RuntimeError):
        cells = torch.Size()
    expected = f"the upscaler's VAE: {channels} channels at 1/{SCALE}"
    require(tuple(cells) == (1, channels, 64 // SCALE, 64 // SCALE), "vae", got, expected, fix)


def upscaler_adapter(model: Any, rank: int) -> AdapterConfig:
    """A LoRA in every linear and convolution layer but those of the last block.

    What writes into the last norm is left alone: an upscaler may work there with values next to the norm's epsilon, as
    the pocket's does to let brightness through, and would be destroyed by updates of ordinary size.
    """
    last = max(int(path.split(".")[1]) for path, _ in model.model.diffusion_model.named_modules()
               if path.startswith("output_blocks."))
    return AdapterConfig(rank=rank, alpha=float(rank), targets="all", block_ranks=rf"^output_blocks\.{last}\.=0")


def level_variances(model: Any) -> Tensor:
    """Variance of the low-res picture's noise at each of the upscaler's levels, 0 to its highest."""
    augmentor = model.model.noise_augmentor
    with torch.inference_mode(False):
        return 1 - augmentor.alphas_cumprod[:augmentor.max_noise_level + 1].detach().clone().double().cpu()


def pairs_objective(model: Any, noise: str, crop: int) -> SuperResolution:
    """The noise of a run: the paper's low one at level 0, or the level nearest to the usual one, with its variance."""
    if noise == LOW:
        return SuperResolution(variance=LOW_VARIANCE, level=0, crop=crop)
    variances = level_variances(model)
    level = int((variances - USUAL_VARIANCE).abs().argmin())
    return SuperResolution(variance=float(variances[level]), level=level, crop=crop)


def noise_augmentation(model: Any, level: int) -> float:
    """The level as SD_4XUpscale_Conditioning's share of the highest one."""
    return level / model.model.noise_augmentor.max_noise_level


def upscale(model: Any, clip: Any, vae: Any, low: Tensor, *, prompt: str, level: int, steps: int, cfg: float,
            seed: int) -> Tensor:
    """Low-res pictures (N, 3, h, w) in -1..1, four times as large: (N, 4 h, 4 w, 3) in 0..1. No global random state is
    changed."""
    devices = [model.load_device.index or 0] if model.load_device.type == "cuda" else []
    extra = {"concat_image": low, "noise_augmentation": noise_augmentation(model, level)}
    with torch.inference_mode(), torch.random.fork_rng(devices=devices):
        positive, negative = ([[row, values | extra] for row, values in conditioning(clip, text)]
                              for text in (prompt, ""))
        channels = model.get_model_object("latent_format").latent_channels
        empty = torch.zeros(len(low), channels, *low.shape[-2:])
        noise = torch.randn(empty.shape, generator=torch.Generator().manual_seed(seed))
        samples = comfy.sample.sample(model, noise, steps, cfg, "euler", "simple", positive, negative, empty,
                                      seed=seed, disable_pbar=True)
        pictures = vae.decode(samples)
    return pictures.clone().clamp(0, 1)
