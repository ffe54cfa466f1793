"""How is the decoder trained? On 64 px crops of the world and generic textures, against the closed-form encoder."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from .config import LATENT_CHANNELS, SIZE
from .klt import VAE_SCALE, Transform, fit_transform, load_transform, save_transform
from .taesd import Decoder, Widths
from .textures import texture
from .world import SEEDS, render, training_scene

log = logging.getLogger(__name__)

CROP = 64
NARROW: Widths = (64, 64, 32, 24)
"""Widths of the trained decoder: 3.4 times fewer multiplications than TAESD's 64 everywhere, most of them saved
at full resolution, where polygons need few channels."""
WORLD_PICTURES, TEXTURES = 4000, 6000
LATENT_NOISE = 0.06
"""Deviation of noise added to half of the latents: the decoder must forgive a generator's small errors."""


def prepare_transform(work: Path) -> Transform:
    """The frozen encoder of a working folder, fitted on the first call."""
    path = work / "transform.pt"
    if not path.exists():
        save_transform(fit_transform(), str(path))
    return load_transform(str(path))


def prepare_pool(work: Path) -> tuple[np.ndarray, np.ndarray]:
    """World pictures (N, SIZE, SIZE, 3) and textures (M, 64, 64, 3), uint8; drawn once per working folder."""
    path = work / "pool.npz"
    if not path.exists():
        world = np.stack([render(training_scene(10**8 + i))[0] for i in range(WORLD_PICTURES)])
        np.savez(path, world=world, textures=np.stack([texture(i, CROP) for i in range(TEXTURES)]))
    stored = np.load(path)
    return stored["world"], stored["textures"]


def crops(pool: tuple[np.ndarray, np.ndarray], batch: int, rng: np.random.Generator) -> torch.Tensor:
    """Half world crops, half textures, (batch, 64, 64, 3) in [0, 1]."""
    world, generic = pool
    corners = rng.integers(0, SIZE - CROP + 1, (batch // 2, 2))
    picked = [world[i][y:y + CROP, x:x + CROP]
              for i, (y, x) in zip(rng.integers(0, len(world), batch // 2), corners, strict=True)]
    picked += list(generic[rng.integers(0, len(generic), batch - batch // 2)])
    return torch.from_numpy(np.stack(picked)).float() / 255


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """0.5 L1 + 4 MSE + 0.25 L1 of the picture gradients; (B, 3, H, W) each, pictures in [0, 1]."""
    error = output - target
    dx, dy = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return 0.5 * error.abs().mean() + 4 * error.square().mean() + 0.25 * (dx.abs().mean() + dy.abs().mean())


def learning_rate(step: int, done: float, peak: float) -> float:
    """100 steps of warm-up, then a cosine to 2 % over the share of the time budget that is used."""
    return float(peak * min(1.0, (step + 1) / 100) * (0.02 + 0.49 * (1 + np.cos(np.pi * min(done, 1.0)))))


def train_steps(decoder: Decoder, transform: Transform, pool: tuple[np.ndarray, np.ndarray], *, seconds: float,
                peak: float, batch: int, seed: int, done_before: float = 0.0,
                optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, float, float]]:
    """Yields (step, loss, share of the time used) after each optimiser step."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    start, step = time.monotonic(), 0
    while (done := done_before + (time.monotonic() - start) / seconds * (1 - done_before)) < 1:
        pictures = crops(pool, batch, rng)
        latents = transform.encode(pictures)
        latents[::2] += LATENT_NOISE * torch.randn(latents[::2].shape, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, done, peak)
        target = pictures.permute(0, 3, 1, 2)
        output = decoder((latents * VAE_SCALE).to(memory_format=torch.channels_last))
        loss = reconstruction_loss(output, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        yield step, loss.item(), done


@torch.no_grad()
def decode(decoder: Decoder, latents: torch.Tensor) -> torch.Tensor:
    """Model latents (B, C, h, w) -> pictures (B, 3, 8h, 8w) in [0, 1]."""
    return decoder((latents * VAE_SCALE).to(memory_format=torch.channels_last)).clamp(0, 1)


def psnr(decoder: Decoder, transform: Transform, pictures: torch.Tensor) -> float:
    """Mean over pictures of -10 log10 MSE; (B, H, W, 3) in [0, 1]."""
    values = []
    for picture in pictures.split(1):
        back = decode(decoder, transform.encode(picture)).permute(0, 2, 3, 1)
        values.append(-10 * functional.mse_loss(back, picture).log10().item())
    return float(np.mean(values))


def held_out_world(count: int) -> torch.Tensor:
    """Pictures of held-out scenes, (count, SIZE, SIZE, 3) in [0, 1]."""
    seeds = SEEDS["held_out_scenes"][:count]
    return torch.from_numpy(np.stack([render(training_scene(s))[0] for s in seeds])).float() / 255


def load_decoder(work: Path) -> Decoder:
    """The trained decoder, in the widths its tensors have."""
    state = torch.load(work / "decoder.pt", weights_only=True)["decoder"]
    ups = sorted({int(k.split(".")[0]) for k in state if k.count(".") == 1})
    widths = tuple(state[f"{i}.weight"].shape[0] for i in ups[:4])
    decoder = Decoder(LATENT_CHANNELS, widths)
    decoder.load_state_dict(state)
    return decoder.eval().to(memory_format=torch.channels_last)


def train_decoder(work: Path, minutes: float, *, peak: float = 4e-3, batch: int = 16,
                  widths: Widths = NARROW) -> None:
    """Trains for a number of minutes (resuming a cut-off run) and leaves `decoder.pt` in `work`."""
    transform, pool = prepare_transform(work), prepare_pool(work)
    torch.manual_seed(0)
    decoder = Decoder(LATENT_CHANNELS, widths).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=peak, betas=(0.9, 0.99))
    path, done_before, seed = work / "decoder.pt", 0.0, 1
    if path.exists():
        state = torch.load(path, weights_only=True)
        decoder.load_state_dict(state["decoder"])
        optimizer.load_state_dict(state["optimizer"])
        done_before, seed = state["done"], state["seed"] + 1
    check = held_out_world(16)
    for step, loss, done in train_steps(decoder, transform, pool, seconds=minutes * 60, peak=peak, batch=batch,
                                        seed=seed, done_before=done_before, optimizer=optimizer):
        if step % 100 == 0:
            log.info("decoder step %d, %.0f %%, loss %.4f, world %.2f dB", step, done * 100, loss,
                     psnr(decoder, transform, check))
            save_state(path, decoder, optimizer, done, seed)
    save_state(path, decoder, optimizer, 1.0, seed)


def save_state(path: Path, decoder: Decoder, optimizer: torch.optim.Optimizer, done: float, seed: int) -> None:
    """Writes atomically: a killed run never leaves half a file."""
    state = {"decoder": decoder.state_dict(), "optimizer": optimizer.state_dict(), "done": done, "seed": seed}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
