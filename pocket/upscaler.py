"""How is the pocket upscaler trained? Velocity prediction on (low-res, high-res) pairs of the endless world.

`python -m pocket.upscaler --minutes 40 --work .pocket` trains, resumes and exports. It is built like Stable Diffusion's
x4 upscaler, text and noise level included, but reads no text: its contexts in training are noise, so that it goes with
any weights of the pocket text encoder.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from .config import MAX_TOKENS, OUTPUT_SCALE, TIMESTEPS, TRAINED_EPSILON
from .export import rename_unet
from .unet import scale_output, set_output_norm, use_cpu_operations
from .upscaler_space import (
    ATTENTION_LEVELS,
    BETA_END,
    BETA_START,
    CONTEXT_DIM,
    LATENT_CHANNELS,
    LOW_RES_CHANNELS,
    MODEL_CHANNELS,
    NOISE_LEVELS,
    NUM_RES_BLOCKS,
    SCALE,
    low_res,
    pictures_to_latents,
    unet_settings,
)
from .world import SEEDS, render, training_scene

log = logging.getLogger(__name__)

CHECKPOINT: Final = Path(__file__).parent / "checkpoints" / "pocket_upscaler.safetensors"
MAX_BYTES: Final = 3_500_000
PEAK_LR: Final = 6e-4
EMA_DECAY: Final = 0.999
WARM_UP: Final = 100
SAVE_SECONDS: Final = 60.0
DRAWN: Final = ((96, 8, 1), (192, 2, 2), (384, 1, 4))
"""Picture size, scenes and crops of each, per step: scenes are then seen from 24 to 96 low-res pixels wide."""
SMALL_CROP, LARGE_CROP, LARGE_FROM = 64, 96, 0.8
"""Pixels of a crop, and from which share of the time on crops are large: small ones teach edges faster."""
MEANS = 3
"""Latent channels that hold the mean of a block: the strongest ones."""
SILU_SHIFT = 6.0
"""silu(x + 6) is x + 6, to about a tenth, for all x above -4."""
LEAST_WEIGHT = 0.2


def alphas_cumprod(levels: int = TIMESTEPS) -> Tensor:
    """SD's scaled-linear form between the upscaler's ends, for the latents and for the low-res picture, (1000,)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, levels, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What one step sees."""

    latents: Tensor
    """(B, 24, h, w)"""
    low: Tensor
    """(B, 3, h, w), noised."""
    level: Tensor
    """(B,), the noise level of `low`."""


def draw_pairs(seeds: Iterator[int], crop: int, rng: np.random.Generator, quiet: bool = False) -> Pairs:
    """Crops of the next seeds' scenes; low-res pictures are made of whole ones, so that crops have no borders.

    Args:
        quiet: without noise in the low-res pictures.
    """
    high, low, cells = [], [], crop // SCALE
    for size, scenes, crops in DRAWN:
        for seed in islice(seeds, scenes):
            picture = torch.from_numpy(render(training_scene(seed), size)[0].copy()).permute(2, 0, 1)[None] / 127.5 - 1
            small = low_res(picture)
            for y, x in rng.integers(0, (size - crop) // SCALE + 1, (crops, 2)):
                high.append(picture[..., y * SCALE:y * SCALE + crop, x * SCALE:x * SCALE + crop])
                low.append(small[..., y:y + cells, x:x + cells])
    level = torch.from_numpy((rng.random(len(low)) ** 4 * NOISE_LEVELS).astype(np.int64))  # mostly low levels
    clean = torch.cat(low)
    return Pairs(latents=pictures_to_latents(torch.cat(high)), low=clean if quiet else add_noise(clean, level),
                 level=level)


def add_noise(low: Tensor, level: Tensor) -> Tensor:
    """Noise augmentation: sqrt(abar) x + sqrt(1 - abar) eps. Source: Ho et al. 2022, cascaded diffusion, 4.2."""
    a = alphas_cumprod()[level][:, None, None, None]
    return a.sqrt() * low + (1 - a).sqrt() * torch.randn_like(low)


def noise_contexts(rows: int) -> Tensor:
    """Text-like contexts that say nothing, (B, 77, 128): a vector common to all tokens and one of each token's own."""
    common, own = torch.randn(rows, 1, CONTEXT_DIM), torch.randn(rows, MAX_TOKENS, CONTEXT_DIM)
    return common + torch.rand(rows, 1, 1) * own


def velocity_loss(unet: UNet2DConditionModel, pairs: Pairs, abar: Tensor) -> Tensor:
    """mean of w |v - v_theta(z_t, t, low, level)|^2 with v = sqrt(abar) eps - sqrt(1 - abar) z, w = 1 - abar.

    With that weight it is the error of the picture that v stands for; at low noise the velocity is hard, and tells
    little. Source: Salimans and Ho 2022, eq. 12 and appendix D; w is at least LEAST_WEIGHT (ours).
    """
    rows = len(pairs.latents)
    spread = (torch.rand(1) + torch.arange(rows) / rows) % 1  # even over the batch: less variance
    timesteps = (spread * TIMESTEPS).long()
    noise, a = torch.randn_like(pairs.latents), abar[timesteps][:, None, None, None]
    noisy = a.sqrt() * pairs.latents + (1 - a).sqrt() * noise
    with torch.autocast("cpu", torch.bfloat16):
        predicted = unet(torch.cat([noisy, pairs.low], 1), timesteps, noise_contexts(rows),
                         class_labels=pairs.level).sample
    error = predicted.float() - (a.sqrt() * noise - (1 - a).sqrt() * pairs.latents)
    return ((1 - a).clamp(min=LEAST_WEIGHT) * error.square()).mean()


def linear_guess() -> tuple[Tensor, Tensor]:
    """The least-squares guess of a latent from the 3 x 3 low-res pixels around it: weight (24, 3, 3, 3), bias (24,)."""
    rng, seeds = np.random.default_rng(0), count(SEEDS["train"].start + 2 * 10**8)
    batches = [draw_pairs(seeds, LARGE_CROP, rng, quiet=True) for _ in range(4)]
    patches = torch.cat([functional.unfold(pairs.low, 3).transpose(1, 2) for pairs in batches])  # (B, cells, 27)
    inside = torch.cat([pairs.latents[..., 1:-1, 1:-1].flatten(2).transpose(1, 2) for pairs in batches])
    design = torch.cat([patches, torch.ones(*patches.shape[:2], 1)], -1).flatten(0, 1)
    solution = torch.linalg.lstsq(design.double(), inside.flatten(0, 1).double(), driver="gelsd").solution.T.float()
    return solution[:, :-1].reshape(-1, LOW_RES_CHANNELS, 3, 3), solution[:, -1]


@torch.no_grad()
def start_from_low_res(unet: UNet2DConditionModel) -> None:
    """Initial weights with which the network answers v = -z, z being the linear guess from the low-res picture, and
    half of the (normalised) difference d of noisy latents and guess.

    conv_in makes d and the guess; the last block's shortcut passes the guess, its residual branch d, whose size time
    may then scale. The blocks' means leave as pairs (y, -y), each one group of the last GroupNorm: their mean is zero,
    so that brightness gets through. Biases keep every SiLU on these ways in its linear part. Measured here: from the
    usual start 900 steps had neither learned the guess nor to take noise away.
    """
    block, n = unet.up_blocks[-1].resnets[-1], LATENT_CHANNELS
    skip = block.conv1.in_channels - MODEL_CHANNELS
    weight, bias = linear_guess()
    unet.conv_in.weight[:2 * n] = 0
    unet.conv_in.weight[range(n), range(n), 1, 1] = 1
    unet.conv_in.weight[:n, n:], unet.conv_in.bias[:n] = -weight, -bias  # d
    unet.conv_in.weight[n:2 * n, n:], unet.conv_in.bias[n:2 * n] = weight, bias  # the guess
    for layer in (unet.conv_out, block.conv_shortcut):
        layer.weight.zero_()
        layer.bias.zero_()
    block.conv1.weight[:n] = 0
    block.conv1.weight[range(n), range(skip, skip + n), 1, 1] = 1
    block.conv1.bias[:n] = -SILU_SHIFT
    block.norm1.bias[skip:skip + n] = SILU_SHIFT
    block.time_emb_proj.weight *= 0.1
    block.time_emb_proj.bias[:] = torch.tensor([-0.5, SILU_SHIFT]).repeat_interleave(MODEL_CHANNELS)  # scale, shift
    block.conv2.weight *= 0.1
    block.conv2.bias.zero_()
    places = [[(2 * k, 1.0), (2 * k + 1, -1.0)] for k in range(MEANS)]  # the means: pairs
    places += [[(2 * MEANS + k, 1.0)] for k in range(n - MEANS)]
    for latent, channels in enumerate(places):
        for channel, sign in channels:
            block.conv_shortcut.weight[channel, skip + n + latent] = -sign
            block.conv2.weight[channel] = 0
            block.conv2.weight[channel, latent, 1, 1] = sign
            block.conv2.bias[channel] = -sign * SILU_SHIFT
            unet.conv_out.weight[latent, channel, 1, 1] = sign / len(channels)
        unet.conv_out.bias[latent] = -SILU_SHIFT * sum(sign for _, sign in channels) / len(channels)
    unet.conv_norm_out.weight.fill_(TRAINED_EPSILON**0.5)
    unet.conv_norm_out.bias.fill_(SILU_SHIFT)


def build_unet() -> UNet2DConditionModel:
    """The network, its last GroupNorm nearly linear: brightness and noise strength are the network's to say."""
    unet = use_cpu_operations(UNet2DConditionModel(**unet_settings()))
    set_output_norm(unet)
    return unet


@dataclass
class Training:
    """Networks, optimiser and clock of a run that can be cut off."""

    unet: UNet2DConditionModel
    ema: list[Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    used: float = 0.0
    """Seconds of training so far; the schedule follows the clock, because cores are shared."""
    losses: list[float] = field(default_factory=list)

    @classmethod
    def begin(cls) -> Training:
        """Fresh networks, the same for everyone."""
        torch.manual_seed(0)
        unet = build_unet()
        start_from_low_res(unet)
        optimizer = torch.optim.AdamW(unet.parameters(), lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        return cls(unet, [p.detach().clone() for p in unet.parameters()], optimizer)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {"unet": self.unet.state_dict(), "ema": self.ema, "optimizer": self.optimizer.state_dict(),
                "step": self.step, "used": self.used, "losses": self.losses}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.unet.load_state_dict(state["unet"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema, self.step, self.used, self.losses = (state[k] for k in ("ema", "step", "used", "losses"))

    def averaged(self) -> UNet2DConditionModel:
        """A copy of the network with the averaged weights."""
        unet = build_unet()
        for target, source in zip(unet.parameters(), self.ema, strict=True):
            target.data.copy_(source)
        return unet.eval().requires_grad_(False)


def learning_rate(step: int, done: float) -> float:
    """Warm-up, flat to 40 % of the time, then a cosine to 2 %."""
    late = min(1.0, max(0.0, (done - 0.4) / 0.6))
    return float(PEAK_LR * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.49 * (1 + np.cos(np.pi * late))))


def train_steps(training: Training, seconds: float) -> Iterator[float]:
    """Yields the share of the time used after each optimiser step."""
    abar, rng = alphas_cumprod(), np.random.default_rng(training.step)
    torch.manual_seed(training.step)
    parameters, last = list(training.unet.parameters()), time.monotonic()
    while (done := training.used / seconds) < 1:
        seeds = count(SEEDS["train"].start + 10**8 + training.step * sum(scenes for _, scenes, _ in DRAWN))
        crop = LARGE_CROP if done >= LARGE_FROM else SMALL_CROP
        loss = velocity_loss(training.unet, draw_pairs(seeds, crop, rng), abar)
        training.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(training.step, done)
        training.optimizer.step()
        decay = min(EMA_DECAY, (1 + training.step) / (10 + training.step))
        torch._foreach_lerp_(training.ema, [p.detach() for p in parameters], 1 - decay)
        training.step += 1
        training.losses.append(loss.item())
        training.used, last = training.used + time.monotonic() - last, time.monotonic()
        yield done


def save_state(path: Path, training: Training) -> None:
    """Writes the state under another name and renames it."""
    torch.save(training.state(), path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def train_upscaler(work: Path, minutes: float) -> Training:
    """Trains until `minutes` are used up, over all sittings; resumes from `work/upscaler.pt`."""
    training, path = Training.begin(), work / "upscaler.pt"
    if path.exists():
        training.restore(torch.load(path, weights_only=True))
    saved = time.monotonic()
    for done in train_steps(training, minutes * 60):
        if training.step % 50 == 0:
            log.info("upscaler step %d, %.1f %%, loss %.4f", training.step, done * 100,
                     np.mean(training.losses[-50:]))
        if time.monotonic() - saved > SAVE_SECONDS:
            save_state(path, training)
            saved = time.monotonic()
    save_state(path, training)
    return training


def checkpoint_tensors(training: Training) -> dict[str, Tensor]:
    """The averaged network under ComfyUI's keys, and the mark that makes ComfyUI's VAE hand pictures on unchanged."""
    unet = training.averaged()
    scale_output(unet, OUTPUT_SCALE)
    state = rename_unet(unet.state_dict(), NUM_RES_BLOCKS, ATTENTION_LEVELS)
    tensors = {key: tensor.to(torch.float16).contiguous() for key, tensor in state.items()}
    return tensors | {"first_stage_model.pixel_space_vae": torch.tensor(1.0, dtype=torch.float16)}


def export_upscaler(training: Training, path: Path = CHECKPOINT) -> None:
    """Writes the checkpoint whole or not at all.

    Raises:
        ValueError: it is larger than what may be committed.
    """
    part = path.with_suffix(".part")
    save_file(checkpoint_tensors(training), part, metadata={"upscaler_steps": str(training.step)})
    if part.stat().st_size > MAX_BYTES:
        raise ValueError(f"checkpoint: got {part.stat().st_size} bytes, expected at most {MAX_BYTES}")
    part.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the pocket upscaler on a CPU; resumable.")
    parser.add_argument("--minutes", type=float, default=40.0, help="training time over all sittings")
    parser.add_argument("--work", type=Path, default=Path(".pocket"), help="folder of the working files")
    parser.add_argument("--to", type=Path, default=CHECKPOINT, help="the checkpoint to write")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    export_upscaler(train_upscaler(given.work, given.minutes), given.to)


if __name__ == "__main__":
    main()
