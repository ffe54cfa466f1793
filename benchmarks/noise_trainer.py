"""Our trainer on photos and texts of noise, for figures beside a bare loop that has the same: nothing but steps is
measured. Networks here stand in no rig of `every_family`: one of them is diffusers' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..core.data.examples import Example, TrainingData
from ..core.model.contracts import Conditioning, Denoiser, WordVectors
from ..core.training.config import TrainingConfig
from ..core.training.trainer import Trainer

TOKENS = 77


class NoiseTexts:
    """`core.model.contracts.TextEncoder` with noise (1, 77, width) for every text, and (1, `pooled`) if any."""

    adapter_keys: Mapping[str, str] = {}
    widths: Mapping[str, int] = {}

    def __init__(self, width: int, pooled: int | None = None):
        self.module = nn.Module()
        self._width, self._pooled = width, pooled

    def encode(self, prompts: Sequence[str], vectors: WordVectors | None = None,
               pictures: Sequence[Sequence[Tensor]] = ()) -> list[Conditioning]:
        return [Conditioning(torch.randn(1, TOKENS, self._width),
                             None if self._pooled is None else torch.randn(1, self._pooled)) for _ in prompts]

    def token_rows(self, text: str) -> dict[str, Tensor]:
        return {}


def noise_trainer(denoiser: Denoiser, texts: NoiseTexts, config: TrainingConfig, *, photos: int, latent_size: int,
                  class_images: int = 0, free_bytes: int | None = None) -> Trainer:
    """On so many photos of noise (4, latent_size, latent_size), and class images where there are any."""
    latents = torch.randn(photos, 4, latent_size, latent_size)
    examples = tuple(Example(latents=row, caption="a sks dog", object_caption="a sks dog", class_noun="dog")
                     for row in latents)
    pools = {"dog": torch.randn(class_images, *latents.shape[1:])} if class_images else {}
    data = TrainingData(examples=examples, class_latents=pools, class_prompts=dict.fromkeys(pools, "a dog"))
    return Trainer(denoiser=denoiser, text_encoder=texts, data=data, config=config, free_bytes=free_bytes)
