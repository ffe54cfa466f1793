"""Who is in a picture, what is it, where is it, which colour? A small network that knows only true renders.

The judge is trained on renders and on renders that went through the autoencoder, is frozen before the generator
is tuned by its figures, and never sees a generated picture while it learns.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from .autoencoder import decode, load_decoder, prepare_transform
from .klt import Transform
from .taesd import Decoder
from .world import SEEDS, Look, Scene, compose_caption, individual_look, plain_look, possible_contexts, render
from .world_paint import COLOURS
from .world_scenes import CONTEXTS
from .world_shapes import NOUNS

log = logging.getLogger(__name__)

JUDGE_FILE: Final = Path(__file__).parent / "judge" / "judge.safetensors"
JUDGE_SIZE: Final = 64
EMBEDDING: Final = 64
TEMPERATURE: Final = 0.1
COLOUR_NAMES: Final = tuple(COLOURS)
IGNORED: Final = -100
IDENTITIES: Final = 4000


class Judge(nn.Module):
    """(B, 3, 64, 64) in [0, 1] -> logits and an identity embedding of unit length."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in ((3, 32), (32, 64), (64, 128), (128, 192)):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(8, n_out), nn.ReLU()]
            layers += [nn.Conv2d(n_out, n_out, 3, padding=1), nn.GroupNorm(8, n_out), nn.ReLU()] * (n_in > 3)
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(192 * 16, 256), nn.ReLU())
        self.noun = nn.Linear(256, len(NOUNS))
        self.context = nn.Linear(256, len(CONTEXTS))
        self.colour = nn.Linear(256, len(COLOUR_NAMES))
        self.identity = nn.Linear(256, EMBEDDING)

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Keys 'noun', 'context', 'colour' (logits) and 'identity' (unit vectors)."""
        features = self.features((pictures - 0.5) * 4)
        return {"noun": self.noun(features), "context": self.context(features), "colour": self.colour(features),
                "identity": functional.normalize(self.identity(features), dim=-1)}


def to_judge_size(pictures: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> (B, 3, 64, 64) by area."""
    return functional.interpolate(pictures, size=(JUDGE_SIZE, JUDGE_SIZE), mode="area")


def scene_of(look: Look, seed: int) -> Scene:
    """A look in a place where it can be seen, in the pose of the seed."""
    rng = np.random.default_rng(seed)
    has_hat = bool(rng.random() < 0.1)
    context = str(rng.choice(possible_contexts(look)))
    caption = compose_caption([], look.noun, has_hat, context)
    return Scene(look=look, context=context, has_hat=has_hat, caption=caption, seed=seed)


def training_looks(count: int, seed: int = 0) -> list[Look]:
    """Two thirds individuals (seeds of base training's range, beyond the named ones), one third described looks."""
    import random

    rng, looks = random.Random(seed), []
    for i in range(count):
        if i % 3:
            looks.append(individual_look(SEEDS["individuals"][1000 + i + seed * count], NOUNS[i % len(NOUNS)]))
        else:
            looks.append(plain_look(rng, "plain"))
    return looks


def labels_of(scene: Scene) -> tuple[int, int, int]:
    """Indices of noun, context and colour; individuals have no one colour."""
    colour = IGNORED if scene.look.second else COLOUR_NAMES.index(scene.look.colour)
    return NOUNS.index(scene.look.noun), CONTEXTS.index(scene.context), colour


def through_autoencoder(pictures: torch.Tensor, transform: Transform, decoder: Decoder) -> torch.Tensor:
    """(B, H, W, 3) -> (B, 3, H, W), both in [0, 1]."""
    return torch.cat([decode(decoder, transform.encode(part)) for part in pictures.split(8)])


@dataclass(frozen=True)
class Views:
    """Two views of every identity."""

    pictures: torch.Tensor
    """(N, 2, 3, 64, 64) uint8."""
    labels: torch.Tensor
    """(N, 2, 3) indices of noun, context, colour."""


def render_views(looks: list[Look], first_seed: int, transform: Transform, decoder: Decoder) -> Views:
    """Renders two scenes per look: every fourth view raw, every fourth through the decoder, the others through
    the transform's linear inverse with a little noise (a cheap stand-in for the decoder)."""
    scenes = [scene_of(look, first_seed + 2 * i + k) for i, look in enumerate(looks) for k in range(2)]
    pictures = render_scenes(scenes, first_seed, transform, decoder).view(len(looks), 2, 3, JUDGE_SIZE, JUDGE_SIZE)
    return Views(pictures, torch.tensor([labels_of(s) for s in scenes]).view(len(looks), 2, 3))


def render_scenes(scenes: list[Scene], seed: int, transform: Transform, decoder: Decoder) -> torch.Tensor:
    """(N, 3, 64, 64) uint8: eight scenes at a time, each eight in one of the three ways of `render_views`."""
    kinds, views = np.random.default_rng(seed).integers(0, 4, len(scenes) // 8 + 1), []
    for start in range(0, len(scenes), 8):
        batch = np.stack([render(s)[0] for s in scenes[start:start + 8]])
        pictures = torch.from_numpy(batch).float() / 255
        kind = kinds[start // 8]
        if kind == 1:
            seen = through_autoencoder(pictures, transform, decoder)
        elif kind > 1:
            latents = transform.encode(pictures)
            seen = transform.decode_linear(latents + 0.08 * torch.randn_like(latents)).permute(0, 3, 1, 2)
        else:
            seen = pictures.permute(0, 3, 1, 2)
        views.append((to_judge_size(seen).clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.cat(views)


def contrastive_loss(embeddings: torch.Tensor) -> torch.Tensor:
    """NT-Xent over (2B, d) unit vectors whose rows i and i + B are views of one identity.

    Source: Chen et al. 2020 (SimCLR), eq. 1.
    """
    similarity = embeddings @ embeddings.T / TEMPERATURE
    similarity.fill_diagonal_(-torch.inf)
    n = len(embeddings)
    return functional.cross_entropy(similarity, (torch.arange(n) + n // 2) % n)


def judge_loss(answers: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Identity + class + context + colour; rows as in `contrastive_loss`, labels (2B, 3)."""
    heads = [functional.cross_entropy(answers[k], labels[:, i], ignore_index=IGNORED, label_smoothing=0.02)
             for i, k in enumerate(("noun", "context", "colour"))]
    return contrastive_loss(answers["identity"]) + sum(heads)


def train_steps(judge: Judge, views: Views, *, seconds: float, batch: int = 32) -> Iterator[tuple[int, float]]:
    """Yields (step, loss) after each optimiser step until the time is used up; one-cycle cosine from 1e-3."""
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.02)
    generator, start, step = torch.Generator().manual_seed(1), time.monotonic(), 0
    while (done := (time.monotonic() - start) / seconds) < 1:
        rows = torch.randint(0, len(views.pictures), (batch,), generator=generator)
        pictures = views.pictures[rows].transpose(0, 1).flatten(0, 1).float() / 255
        gain = 1 + 0.1 * torch.randn((len(pictures), 3, 1, 1), generator=generator)
        pictures = pictures * gain + 0.03 * torch.randn(pictures.shape, generator=generator)
        loss = judge_loss(judge(pictures), views.labels[rows].transpose(0, 1).flatten(0, 1))
        for group in optimizer.param_groups:
            group["lr"] = float(1e-3 * min(1, (step + 1) / 50) * (0.02 + 0.49 * (1 + np.cos(np.pi * done))))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        step += 1
        yield step, loss.item()


@torch.no_grad()
def accuracy(judge: Judge, pictures: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Share of right answers per head, (B, 3, H, W) pictures and (B, 3) labels; ignored colours do not count."""
    answers = [judge(to_judge_size(part)) for part in pictures.split(64)]
    shares = {}
    for i, key in enumerate(("noun", "context", "colour")):
        counted = labels[:, i] != IGNORED
        right = torch.cat([a[key] for a in answers]).argmax(-1) == labels[:, i]
        shares[key] = right[counted].float().mean().item()
    return shares


def train_judge(work: Path, minutes: float, path: Path = JUDGE_FILE) -> None:
    """Trains the judge once; an existing file is left alone, because the judge is frozen."""
    if path.exists():
        log.info("judge: %s exists and stays frozen", path)
        return
    torch.manual_seed(0)
    views = render_views(training_looks(IDENTITIES), SEEDS["train"].stop - 10**8, prepare_transform(work),
                         load_decoder(work))
    judge = Judge()
    for step, loss in train_steps(judge, views, seconds=minutes * 60):
        if step % 100 == 0:
            log.info("judge step %d, loss %.3f", step, loss)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.half() for key, tensor in judge.state_dict().items()}  # halves the file
    save_file(tensors, path, metadata={"nouns": json.dumps(NOUNS), "contexts": json.dumps(CONTEXTS),
                                                  "colours": json.dumps(COLOUR_NAMES)})


def load_judge(path: Path = JUDGE_FILE) -> Judge:
    """The frozen judge."""
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.eval().requires_grad_(False)
