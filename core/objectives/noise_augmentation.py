"""Noise augmentation of an upscaler's low-res input: sqrt(1 - v) x + sqrt(v) eps, and the level the network is told.

DreamBooth, arXiv:2208.12242, 4.3: fine-tuning at the noise that the super-resolution model was trained with blurs the
subject's fine patterns; at 1e-5 in place of 1e-3 they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..data import TrainingData
from ..errors import require
from .base import Objective

LOW_VARIANCE, USUAL_VARIANCE = 1e-5, 1e-3
"""The paper's two levels, read as variances of pictures in -1..1 (METHODS 1)."""


@dataclass(frozen=True, kw_only=True)
class NoiseAugmentation(Objective):
    """How the low-res input is disturbed.

    Attributes:
        variance: v, of Gaussian noise, 0..1.
        level: what the network's noise-level embedding is told, and what to sample with.

    Source: Ho et al. 2022 (arXiv:2106.15282), 4.2; DreamBooth, 4.3.
    """

    kind: ClassVar[str] = "noise_augmentation"

    variance: float = LOW_VARIANCE
    level: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.variance < 1, "variance", self.variance, "0 or more, and below 1", "The paper uses 1e-5.")
        require(self.level >= 0, "level", self.level, "0 or more", "Use 0 for the paper's low noise.")

    def check(self, data: TrainingData) -> None:
        require(all(example.concat is not None for example in data.examples), "model",
                "training data without low-res pictures", "an upscaler", "Use PersonalizeSuperResolution.")

    def augment_concat(self, concat: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(concat.shape, generator=generator)
        return (1 - self.variance) ** 0.5 * concat + self.variance**0.5 * noise
