"""What an upscaler is fine-tuned with: noise in its low-res input, the level it is told, and the size of its crops.

DreamBooth, arXiv:2208.12242, 4.3: fine-tuned at the noise that the super-resolution model was trained with, it blurs
the subject's fine patterns; at 1e-5 in place of 1e-3 they are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..data.examples import TrainingData
from ..errors import require
from .base import Objective

LOW_VARIANCE, USUAL_VARIANCE = 1e-5, 1e-3
"""The paper's two noise levels, read as variances of pictures in -1..1 (METHODS 1)."""
CROP_STEP = 32
"""Pixels: four per latent cell, and eight cells, which the network's own downsampling divides."""


@dataclass(frozen=True, kw_only=True)
class SuperResolution(Objective):
    """The low-res input becomes sqrt(1 - v) x + sqrt(v) eps, eps anew in every step.

    Attributes:
        variance: v, 0..1.
        level: what the network's noise-level embedding is told, and what to sample with.
        crop: pixels of a training crop's side.

    Source: noise augmentation: Ho et al. 2022 (arXiv:2106.15282), 4.2; its level: DreamBooth, 4.3.
    """

    kind: ClassVar[str] = "super_resolution"

    variance: float = LOW_VARIANCE
    level: int = 0
    crop: int = 512

    @classmethod
    def among(cls, objectives: Iterable[Objective]) -> SuperResolution:
        """The one that an upscaler's run has."""
        return next(objective for objective in objectives if isinstance(objective, cls))

    def __post_init__(self) -> None:
        require(0 <= self.variance < 1, "variance", self.variance, "0 or more, and below 1", "The paper uses 1e-5.")
        require(self.level >= 0, "level", self.level, "0 or more", "Use 0 for the paper's low noise.")
        require(self.crop >= CROP_STEP and self.crop % CROP_STEP == 0, "crop", self.crop,
                f"a multiple of {CROP_STEP} pixels", f"Use {max(CROP_STEP, self.crop // CROP_STEP * CROP_STEP)}.")

    def check(self, data: TrainingData) -> None:
        require(all(view.concat is not None for example in data.examples for view in example.views), "model",
                "training data without low-res pictures", "an upscaler and its pairs",
                "Train it with an upscaler model on pairs of pictures.")

    def augment_concat(self, concat: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(concat.shape, generator=generator)
        noisy: Tensor = (1 - self.variance) ** 0.5 * concat + self.variance**0.5 * noise
        return noisy
