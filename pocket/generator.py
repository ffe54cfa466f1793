"""How is the generator trained? Noise prediction on latents of the endless world, text encoder included."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import distributed, nn
from transformers import CLIPTextModel

from .config import BETA_END, BETA_START, TIMESTEPS
from .klt import Transform
from .text import Vocabulary, build_compact_encoder, tokenize, training_vocabulary
from .unet import build_unet, start_from_identity, use_cpu_operations
from .world import SEEDS, render, training_scene

log = logging.getLogger(__name__)

BATCH = 32
"""Rows per step over all processes."""
PEAK_LR = 8e-4
WEIGHT_DECAY = 0.01
SNR_GAMMA = 5.0
CAPTION_DROPOUT = 0.1
EMA_DECAY = 0.997
WARM_UP = 100
SAVE_SECONDS = 120.0


def alphas_cumprod() -> torch.Tensor:
    """SD's scaled-linear schedule, (1000,)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


@dataclass
class Generator:
    """The two trained networks and the vocabulary between them."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    vocabulary: Vocabulary

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, UNet first."""
        return [*self.unet.parameters(), *self.text.parameters()]

    def encode(self, captions: list[str]) -> torch.Tensor:
        """Captions -> (B, 77, width), final layer norm applied."""
        return self.text(self.vocabulary.compact(tokenize(captions))).last_hidden_state


def build_generator() -> Generator:
    """Fresh networks; the same for every process."""
    torch.manual_seed(0)
    vocabulary = training_vocabulary()
    unet = start_from_identity(use_cpu_operations(build_unet())).to(memory_format=torch.channels_last)
    return Generator(unet, build_compact_encoder(vocabulary), vocabulary)


def load_batch(seeds: range, transform: Transform, rng: np.random.Generator) -> tuple[torch.Tensor, list[str]]:
    """Draws the scenes of the seeds: latents (B, C, h, w) and captions, some of them dropped."""
    scenes = [training_scene(seed) for seed in seeds]
    pictures = torch.from_numpy(np.stack([render(scene)[0] for scene in scenes])).float() / 255
    captions = [scene.caption if rng.random() >= CAPTION_DROPOUT else "" for scene in scenes]
    return transform.encode(pictures), captions


def denoising_loss(generator: Generator, latents: torch.Tensor, captions: list[str],
                   abar: torch.Tensor) -> torch.Tensor:
    """mean of w(t) |eps - eps_theta(sqrt(abar) z + sqrt(1 - abar) eps, t, c)|^2, w = min(SNR, 5) / SNR.

    Source: Hang et al. 2023, min-SNR weighting, in its noise-prediction form.
    """
    timesteps = torch.randint(0, TIMESTEPS, (len(latents),))
    noise = torch.randn_like(latents)
    a = abar[timesteps][:, None, None, None]
    noisy = a.sqrt() * latents + (1 - a).sqrt() * noise
    predicted = generator.unet(noisy, timesteps, generator.encode(captions)).sample
    snr = (a / (1 - a)).flatten()
    weight = snr.clamp(max=SNR_GAMMA) / snr
    return (weight * (predicted - noise).square().mean((1, 2, 3))).mean()


def learning_rate(step: int, done: float) -> float:
    """Warm-up, flat to half of the budget, then a cosine to 3 %."""
    late = max(0.0, (done - 0.5) / 0.5)
    return float(PEAK_LR * min(1.0, (step + 1) / WARM_UP) * (0.03 + 0.485 * (1 + np.cos(np.pi * min(late, 1.0)))))


def average_gradients(parameters: list[nn.Parameter], world: int, done: float) -> float:
    """Averages gradients over the processes in one message, and takes the first process's `done` along."""
    if world == 1:
        return done
    own = done if distributed.get_rank() == 0 else 0.0
    flat = torch.cat([*(p.grad.flatten() for p in parameters), torch.tensor([own])])
    distributed.all_reduce(flat)
    offset = 0
    for p in parameters:
        p.grad.copy_(flat[offset:offset + p.numel()].view_as(p)).div_(world)
        offset += p.numel()
    return flat[-1].item()


@dataclass
class Progress:
    """What a cut-off run needs, besides tensors, to go on."""

    step: int = 0
    used: float = 0.0
    """Seconds of training so far; the schedule follows the clock, because cores are shared."""


def train_steps(generator: Generator, ema: list[torch.Tensor], optimizer: torch.optim.Optimizer,
                transform: Transform, progress: Progress, *, seconds: float, rank: int,
                world: int) -> Iterator[tuple[float, float]]:
    """Yields (loss, share of the time used) after each optimiser step; updates `ema` and `progress` in place."""
    parameters, abar = generator.parameters(), alphas_cumprod()
    rng = np.random.default_rng([progress.step, rank])
    torch.manual_seed(1000 * progress.step + rank)
    rows = BATCH // world
    last, done = time.monotonic(), progress.used / seconds
    while done < 1:
        first = SEEDS["train"].start + progress.step * BATCH + rank * rows
        loss = denoising_loss(generator, *load_batch(range(first, first + rows), transform, rng), abar)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        done = average_gradients(parameters, world, progress.used / seconds)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, done)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(EMA_DECAY, (1 + progress.step) / (10 + progress.step))
        torch._foreach_lerp_(ema, [p.data for p in parameters], 1 - decay)
        progress.step += 1
        progress.used, last = progress.used + time.monotonic() - last, time.monotonic()
        yield loss.item(), done


def save_state(path: Path, generator: Generator, ema: list[torch.Tensor], optimizer: torch.optim.Optimizer,
               progress: Progress) -> None:
    """Writes everything a resumed run needs, atomically."""
    state = {"unet": generator.unet.state_dict(), "text": generator.text.state_dict(), "ema": ema,
             "optimizer": optimizer.state_dict(), "step": progress.step, "used": progress.used}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_ema(work: Path) -> Generator:
    """The averaged networks of the last checkpoint."""
    generator = build_generator()
    state = torch.load(work / "generator.pt", weights_only=True)
    with torch.no_grad():
        for parameter, average in zip(generator.parameters(), state["ema"], strict=True):
            parameter.copy_(average)
    generator.unet.eval(), generator.text.eval()
    return generator


def train_generator(work: Path, transform: Transform, minutes: float, rank: int = 0, world: int = 1) -> None:
    """Trains until `minutes` of training are used up, over all sittings; resumes from `work/generator.pt`."""
    generator = build_generator()
    optimizer = torch.optim.AdamW(
        [{"params": list(generator.unet.parameters()), "weight_decay": WEIGHT_DECAY},
         {"params": list(generator.text.parameters()), "weight_decay": 0.0}], lr=PEAK_LR, betas=(0.9, 0.99))
    ema, progress = [p.detach().clone() for p in generator.parameters()], Progress()
    path = work / "generator.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        generator.unet.load_state_dict(state["unet"])
        generator.text.load_state_dict(state["text"])
        optimizer.load_state_dict(state["optimizer"])
        ema, progress = state["ema"], Progress(step=state["step"], used=state["used"])
    saved, losses, first = time.monotonic(), [], progress.step
    started = saved
    for loss, done in train_steps(generator, ema, optimizer, transform, progress, seconds=minutes * 60, rank=rank,
                                  world=world):
        losses.append(loss)
        if rank == 0 and progress.step % 50 == 0:
            speed = (progress.step - first) * BATCH / (time.monotonic() - started)
            log.info("generator step %d, %.1f %%, loss %.4f, %.1f img/s", progress.step, done * 100,
                     np.mean(losses[-50:]), speed)
        if rank == 0 and time.monotonic() - saved > SAVE_SECONDS:
            save_state(path, generator, ema, optimizer, progress)
            saved = time.monotonic()
    if rank == 0:
        save_state(path, generator, ema, optimizer, progress)
