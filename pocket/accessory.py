"""Does it wear a hat? The judge's fifth question, asked of a small network of its own: the judge stays frozen.

It is trained on pairs of renders that differ in nothing but the hat, raw and through the autoencoder, and like the
judge it never sees a generated picture.

    python -m pocket.accessory
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from .judge import JUDGE_FILE, Views, render_scenes, scene_of, training_looks
from .published import load_published_decoder, load_published_transform
from .world import SEEDS, Look, Scene

log = logging.getLogger(__name__)

ACCESSORY_FILE: Final = JUDGE_FILE.with_name("accessory.safetensors")
PAIRS, EPOCHS, BATCH, RATE = 1500, 12, 32, 3e-3


class HatJudge(nn.Module):
    """(B, 3, 64, 64) in [0, 1] -> (B,) logits of 'it wears a hat'."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out, stride in ((3, 24, 2), (24, 32, 2), (32, 48, 2), (48, 64, 1)):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1), nn.GroupNorm(8, n_out), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(128, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The strongest and the mean answer of every place, (B, 2 * 64), to one number."""
        features: torch.Tensor = self.features((pictures - 0.5) * 4)
        answers: torch.Tensor = self.head(torch.cat([features.amax((2, 3)), features.mean((2, 3))], dim=1))
        return answers[:, 0]


def hat_pairs(looks: list[Look], first_seed: int) -> list[Scene]:
    """Each look twice in one place and pose: without a hat, then with one."""
    scenes = [scene_of(look, first_seed + i) for i, look in enumerate(looks)]
    return [replace(scene, has_hat=has_hat) for scene in scenes for has_hat in (False, True)]


def render_pairs(looks: list[Look], first_seed: int) -> Views:
    """(N, 2) pictures as `judge.render_scenes` makes them; labels (N, 2, 1) are 0 without a hat, 1 with one."""
    scenes = hat_pairs(looks, first_seed)
    pictures = render_scenes(scenes, first_seed, load_published_transform(), load_published_decoder())
    labels = torch.tensor([scene.has_hat for scene in scenes]).long()
    return Views(pictures.unflatten(0, (len(looks), 2)), labels.view(len(looks), 2, 1))


def train_steps(judge: HatJudge, views: Views, epochs: int = EPOCHS) -> Iterator[float]:
    """Yields the loss after each optimiser step; one-cycle, binary cross-entropy, both sides of a pair in one batch."""
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=0.02)
    steps = epochs * (len(views.pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        rows = torch.randint(0, len(views.pictures), (BATCH,), generator=generator)
        pictures = views.pictures[rows].flatten(0, 1).float() / 255
        gain = 1 + 0.1 * torch.randn((len(pictures), 3, 1, 1), generator=generator)
        pictures = pictures * gain + 0.03 * torch.randn(pictures.shape, generator=generator)
        loss = functional.binary_cross_entropy_with_logits(judge(pictures), views.labels[rows].flatten().float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss.item()


def train_hat_judge(path: Path = ACCESSORY_FILE) -> None:
    """Trains it once; an existing file is left alone."""
    if path.exists():
        log.info("accessory: %s exists and stays frozen", path)
        return
    torch.manual_seed(0)
    judge = HatJudge()
    views = render_pairs(training_looks(PAIRS, seed=1), SEEDS["train"].stop - 2 * 10**8)
    for step, loss in enumerate(train_steps(judge, views)):
        if step % 50 == 0:
            log.info("accessory step %d, loss %.4f", step, loss)
    save_file({key: tensor.half() for key, tensor in judge.state_dict().items()}, path)


def load_hat_judge(path: Path = ACCESSORY_FILE) -> HatJudge:
    """The frozen network."""
    judge = HatJudge()
    judge.load_state_dict(load_file(path))
    return judge.eval().requires_grad_(False)


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description="Train the hat judge once.").parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_hat_judge()


if __name__ == "__main__":
    main()
