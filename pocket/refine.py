"""How does the committed generator go on learning? Its UNet alone; text encoder and token table stay as they are.

Everything that was personalized or taught in the token space of the committed file (the image-text encoder, token
vectors) keeps its meaning, because the text side is frozen from the first release on.
"""

from __future__ import annotations

import collections.abc
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .config import TRAINED_EPSILON
from .export import CHECKPOINT, rename_unet, write_checkpoint
from .generator import (
    BATCH,
    FlatParameters,
    Generator,
    alphas_cumprod,
    denoising_loss,
    load_batch,
    unflatten,
)
from .klt import Transform
from .published import load_published, load_published_transform, published_facts, published_tensors
from .unet import file_state, output_scale, set_output_norm
from .world import SEEDS

log = logging.getLogger(__name__)

PEAK_LR = 4e-4
WARM_UP = 200
EMA_DECAY = 0.998
FIRST_SEED = 5 * 10**8
"""Pictures from the middle of the training range: the first run saw its beginning."""
SAVE_SECONDS = 120.0
COARSE_SHARE = 0.75
"""Share of the time in bfloat16, twice as fast; the rest is in float32."""


@torch.no_grad()
def linearise_output(generator: Generator, transform: Transform) -> None:
    """Gives the last GroupNorm its large epsilon and enlarges its weight, so that the output's strength stays.

    w' = w sqrt(V + eps') / sqrt(V), V the variance of each group, on average over noisy training pictures.
    """
    unet, abar, seen = generator.unet, alphas_cumprod(), []
    norm = unet.conv_norm_out
    hook = norm.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    batch = load_batch(range(FIRST_SEED, FIRST_SEED + 32), transform, np.random.default_rng(0))
    a = abar[500::15][:32]  # where the copied noise is most of the answer
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    noisy = a.sqrt()[:, None, None, None] * batch.latents + (1 - a).sqrt()[:, None, None, None] * noise
    unet(noisy, torch.arange(500, 1000, 15)[:32], generator.encode(batch.captions))
    hook.remove()
    variance = seen[0].reshape(len(noisy), norm.num_groups, -1).var(-1, correction=0).mean(0)
    gain = ((variance + TRAINED_EPSILON) / (variance + norm.eps)).sqrt()
    norm.weight.mul_(gain.repeat_interleave(norm.num_channels // norm.num_groups))
    set_output_norm(unet)


def start(path: Path, transform: Transform) -> Generator:
    """The published generator, its last norm made nearly linear where it is not."""
    generator = load_published(path)
    if "output_scale" not in published_facts(path):
        linearise_output(generator, transform)
    generator.unet.train().to(memory_format=torch.channels_last)
    return generator


def learning_rate(step: int, done: float) -> float:
    """Warm-up, flat to half of the time, then a cosine to 2 %."""
    late = min(1.0, max(0.0, (done - 0.5) / 0.5))
    return float(PEAK_LR * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.49 * (1 + np.cos(np.pi * late))))


@dataclass
class Refinement:
    """A run that can be cut off: parameters, their average, the optimiser and the clock."""

    generator: Generator
    transform: Transform
    step: int = 0
    used: float = 0.0
    flat: FlatParameters = field(init=False)
    ema: Tensor = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.flat = FlatParameters.flatten(list(self.generator.unet.parameters()))
        self.ema = self.flat.vector.detach().clone()
        self.optimizer = torch.optim.AdamW([self.flat.vector], lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=0.0,
                                           fused=True)

    def save(self, path: Path) -> None:
        """Everything a resumed run needs, atomically."""
        torch.save({"vector": self.flat.vector.detach(), "ema": self.ema, "optimizer": self.optimizer.state_dict(),
                    "step": self.step, "used": self.used}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def load(self, path: Path) -> None:
        """Takes up what `save` left."""
        state = torch.load(path, weights_only=True)
        self.flat.vector.data.copy_(state["vector"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema, self.step, self.used = state["ema"], state["step"], state["used"]


def train_steps(run: Refinement, seconds: float) -> collections.abc.Generator[tuple[float, float], None, None]:
    """Yields (loss, share of the time used) after each optimiser step."""
    abar, rng = alphas_cumprod(), np.random.default_rng([run.step, 7])
    torch.manual_seed(2000 * run.step + 7)
    last = time.monotonic()
    while (done := run.used / seconds) < 1:
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(run.step, done)
        first = FIRST_SEED + run.step * BATCH
        assert first + BATCH <= SEEDS["train"].stop
        batch = load_batch(range(first, first + BATCH), run.transform, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=done < COARSE_SHARE):
            loss = denoising_loss(run.generator, batch, abar)
        run.flat.vector.grad.zero_()
        loss.backward()
        nn.utils.clip_grad_norm_([run.flat.vector], 1.0)
        run.optimizer.step()
        run.ema.lerp_(run.flat.vector.data, 1 - min(EMA_DECAY, (1 + run.step) / (10 + run.step)))
        run.step += 1
        run.used, last = run.used + time.monotonic() - last, time.monotonic()
        yield loss.item(), done


def refine(work: Path, minutes: float, source: Path = CHECKPOINT) -> None:
    """Trains until `minutes` are used up, over all sittings; leaves `refined.pt` and `refined.safetensors` behind."""
    transform, path = load_published_transform(source), work / "refined.pt"
    run = Refinement(start(source, transform), transform)
    if path.exists():
        run.load(path)
    losses, saved = [], time.monotonic()
    for loss, done in train_steps(run, minutes * 60):
        losses.append(loss)
        if run.step % 100 == 0:
            log.info("step %d, %.1f %%, loss %.4f, %.1f img/s", run.step, done * 100, np.mean(losses[-100:]),
                     run.step * BATCH / run.used)
        if time.monotonic() - saved > SAVE_SECONDS:
            run.save(path)
            saved = time.monotonic()
    run.save(path)
    export_refined(work, source)


def export_refined(work: Path, source: Path = CHECKPOINT, path: Path | None = None) -> Path:
    """The source's file with the averaged UNet in it; every other tensor bit by bit as it was."""
    state = torch.load(work / "refined.pt", weights_only=True)
    generator = load_published(source)
    unflatten(state["ema"], list(generator.unet.parameters()))
    set_output_norm(generator.unet)
    tensors = published_tensors(source) | {key: tensor.detach().half().contiguous() for key, tensor in
                                           rename_unet(file_state(generator.unet)).items()}
    facts = published_facts(source)
    facts |= {"output_scale": output_scale(generator.unet),
              "refinement_steps": facts.get("refinement_steps", 0) + state["step"]}
    write_checkpoint(tensors, path or work / "refined.safetensors", facts)
    return path or work / "refined.safetensors"
