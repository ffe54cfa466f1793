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
from torch.nn import functional
from transformers import CLIPTextModel

from .config import BETA_END, BETA_START, DOWNSCALE, TIMESTEPS
from .klt import Transform
from .text import Vocabulary, build_compact_encoder, tokenize, training_vocabulary
from .unet import build_unet, start_from_identity, use_cpu_operations
from .world import SEEDS, render, training_scene

log = logging.getLogger(__name__)

BATCH = 16
"""Rows per step over all processes: on a CPU samples are scarce, and small steps make more of them."""
PEAK_LR = 6e-4
SNR_GAMMA = 5.0
HIGH_NOISE_BOOST, HIGH_NOISE_LIMIT = 0.1, 4.0
"""Extra weight min(0.1 / SNR, 4): the layout that a caption decides is decided at high noise."""
CAPTION_DROPOUT = 0.1
EMA_DECAY = 0.998
WARM_UP = 100
OBJECT_BOOST = 2.0
"""Extra weight of the cells that the object covers (exact masks): backgrounds are learned long before shapes."""
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


@dataclass(frozen=True)
class Batch:
    """What one step sees."""

    latents: torch.Tensor
    """(B, C, h, w)"""
    cell_weight: torch.Tensor
    """(B, 1, h, w): 1 on the background, 1 + OBJECT_BOOST on the object, divided by the mean."""
    captions: list[str]


def load_batch(seeds: range, transform: Transform, rng: np.random.Generator) -> Batch:
    """Draws the scenes of the seeds; some captions are dropped."""
    scenes = [training_scene(seed) for seed in seeds]
    drawn = [render(scene) for scene in scenes]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn])).float() / 255
    coverage = torch.from_numpy(np.stack([mask for _, mask in drawn]))[:, None].float() / 255
    weight = 1 + OBJECT_BOOST * functional.avg_pool2d(coverage, DOWNSCALE)
    captions = [scene.caption if rng.random() >= CAPTION_DROPOUT else "" for scene in scenes]
    return Batch(transform.encode(pictures), weight / weight.mean(), captions)


def denoising_loss(generator: Generator, batch: Batch, abar: torch.Tensor) -> torch.Tensor:
    """mean of w(t) |eps - eps_theta(sqrt(abar) z + sqrt(1 - abar) eps, t, c)|^2, w = min(SNR, 5) / SNR + boost.

    Source: Hang et al. 2023, min-SNR weighting, in its noise-prediction form; both boosts are ours.
    """
    latents = batch.latents
    spread = (torch.rand(1) + torch.arange(len(latents)) / len(latents)) % 1  # even over the batch: less variance
    timesteps = (spread * TIMESTEPS).long()
    noise = torch.randn_like(latents)
    a = abar[timesteps][:, None, None, None]
    noisy = a.sqrt() * latents + (1 - a).sqrt() * noise
    predicted = generator.unet(noisy, timesteps, generator.encode(batch.captions)).sample
    snr = (a / (1 - a)).flatten()
    weight = snr.clamp(max=SNR_GAMMA) / snr + (HIGH_NOISE_BOOST / snr).clamp(max=HIGH_NOISE_LIMIT)
    return (weight * (batch.cell_weight * (predicted - noise).square()).mean((1, 2, 3))).mean()


def learning_rate(step: int, done: float) -> float:
    """Warm-up, flat to half of the budget, then a cosine to 3 %."""
    late = max(0.0, (done - 0.5) / 0.5)
    return float(PEAK_LR * min(1.0, (step + 1) / WARM_UP) * (0.03 + 0.485 * (1 + np.cos(np.pi * min(late, 1.0)))))


@dataclass
class FlatParameters:
    """All parameters as views of one vector, and their gradients of another: one pass per optimiser operation,
    one message per step between the processes."""

    vector: nn.Parameter

    @classmethod
    def flatten(cls, parameters: list[nn.Parameter]) -> FlatParameters:
        """Moves the parameters' storage into one vector (the modules keep working on the views)."""
        vector = nn.Parameter(torch.cat([storage_order(p).flatten() for p in parameters]).detach())
        vector.grad = torch.zeros_like(vector)
        offset = 0
        for p in parameters:
            for flat, target in ((vector.data, "data"), (vector.grad, "grad")):
                view = flat[offset:offset + p.numel()].view(storage_order(p).shape)
                setattr(p, target, view.permute(0, 3, 1, 2) if p.ndim == 4 else view)
            offset += p.numel()
        return cls(vector=vector)

    def average_gradient(self, world: int, done: float) -> float:
        """Averages over the processes; returns the first process's `done` to all of them."""
        if world == 1:
            return done
        clock = torch.tensor([done])
        distributed.all_reduce(self.vector.grad)
        distributed.broadcast(clock, 0)
        self.vector.grad.div_(world)
        return clock.item()


def storage_order(p: torch.Tensor) -> torch.Tensor:
    """Kernels as (out, y, x, in), the order in which channels_last convolutions read them."""
    return p.detach().permute(0, 2, 3, 1) if p.ndim == 4 else p.detach()


def unflatten(vector: torch.Tensor, parameters: list[nn.Parameter]) -> None:
    """Copies a vector that `FlatParameters` made back into (unflattened) parameters."""
    offset = 0
    for p in parameters:
        view = vector[offset:offset + p.numel()].view(storage_order(p).shape)
        with torch.no_grad():
            p.copy_(view.permute(0, 3, 1, 2) if p.ndim == 4 else view)
        offset += p.numel()


@dataclass
class Progress:
    """What a cut-off run needs, besides tensors, to go on."""

    step: int = 0
    used: float = 0.0
    """Seconds of training so far; the schedule follows the clock, because cores are shared."""


def train_steps(generator: Generator, flat: FlatParameters, ema: torch.Tensor, optimizer: torch.optim.Optimizer,
                transform: Transform, progress: Progress, *, seconds: float, rank: int,
                world: int) -> Iterator[tuple[float, float]]:
    """Yields (loss, share of the time used) after each optimiser step; updates `ema` and `progress` in place."""
    abar, rng = alphas_cumprod(), np.random.default_rng([progress.step, rank])
    torch.manual_seed(1000 * progress.step + rank)
    rows = BATCH // world
    last, done = time.monotonic(), progress.used / seconds
    while done < 1:
        first = SEEDS["train"].start + progress.step * BATCH + rank * rows
        loss = denoising_loss(generator, load_batch(range(first, first + rows), transform, rng), abar)
        flat.vector.grad.zero_()
        loss.backward()
        done = flat.average_gradient(world, progress.used / seconds)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, done)
        nn.utils.clip_grad_norm_([flat.vector], 1.0)
        optimizer.step()
        ema.lerp_(flat.vector.data, 1 - min(EMA_DECAY, (1 + progress.step) / (10 + progress.step)))
        progress.step += 1
        progress.used, last = progress.used + time.monotonic() - last, time.monotonic()
        yield loss.item(), done


def save_state(path: Path, flat: FlatParameters, ema: torch.Tensor, optimizer: torch.optim.Optimizer,
               progress: Progress) -> None:
    """Writes everything a resumed run needs, atomically."""
    state = {"vector": flat.vector.detach(), "ema": ema, "optimizer": optimizer.state_dict(),
             "step": progress.step, "used": progress.used}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_ema(work: Path) -> Generator:
    """The averaged networks of the last checkpoint."""
    generator = build_generator()
    unflatten(torch.load(work / "generator.pt", weights_only=True)["ema"], generator.parameters())
    generator.unet.eval(), generator.text.eval()
    return generator


def train_generator(work: Path, transform: Transform, minutes: float, rank: int = 0, world: int = 1) -> None:
    """Trains until `minutes` of training are used up, over all sittings; resumes from `work/generator.pt`."""
    generator, path, progress = build_generator(), work / "generator.pt", Progress()
    flat = FlatParameters.flatten(generator.parameters())
    optimizer = torch.optim.AdamW([flat.vector], lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    ema = flat.vector.detach().clone()
    if path.exists():
        state = torch.load(path, weights_only=True)
        flat.vector.data.copy_(state["vector"])
        optimizer.load_state_dict(state["optimizer"])
        ema, progress = state["ema"], Progress(step=state["step"], used=state["used"])
    saved = started = time.monotonic()
    losses, first = [], progress.step
    for loss, done in train_steps(generator, flat, ema, optimizer, transform, progress, seconds=minutes * 60,
                                  rank=rank, world=world):
        losses.append(loss)
        if rank == 0 and progress.step % 50 == 0:
            speed = (progress.step - first) * BATCH / (time.monotonic() - started)
            log.info("generator step %d, %.1f %%, loss %.4f, %.1f img/s", progress.step, done * 100,
                     np.mean(losses[-50:]), speed)
        if rank == 0 and time.monotonic() - saved > SAVE_SECONDS:
            save_state(path, flat, ema, optimizer, progress)
            saved = time.monotonic()
    if rank == 0:
        save_state(path, flat, ema, optimizer, progress)
