"""Noise and noise levels of new rows: standard normal and uniform, unless an objective shapes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor

from ..model.schedule import NoiseSchedule


class ShapesDraws(Protocol):
    """An objective, as far as draws are concerned."""

    def draw_levels(self, schedule: NoiseSchedule, count: int, generator: Generator) -> Tensor | None:
        """Noise levels (count,) in place of uniform ones."""
        ...

    def shape_noise(self, noise: Tensor, generator: Generator) -> Tensor:
        """The noise (N, C, h, w) that is trained on."""
        ...

    def augment_concat(self, concat: Tensor, generator: Generator) -> Tensor:
        """What the network reads beside the noisy latents."""
        ...


class NoiseSource:
    """Draws for the rows of one run; all randomness comes from the generator that is passed.

    Args:
        schedule: the model's noise levels.
        objectives: those that shape draws, in their fixed order.
    """

    def __init__(self, schedule: NoiseSchedule, objectives: Sequence[ShapesDraws] = ()):
        self.schedule, self.objectives = schedule, tuple(objectives)

    def levels(self, count: int, generator: Generator) -> Tensor:
        """Levels (count,) of the schedule, 0..T-1."""
        for objective in self.objectives:
            drawn = objective.draw_levels(self.schedule, count, generator)
            if drawn is not None:
                return drawn
        return torch.randint(len(self.schedule), (count,), generator=generator)

    def noise(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """Noise (N, C, h, w)."""
        noise = torch.randn(*shape, generator=generator)
        for objective in self.objectives:
            noise = objective.shape_noise(noise, generator)
        return noise

    def concat(self, clean: Tensor, generator: Generator) -> Tensor:
        """What the network reads beside the noisy latents (N, K, h, w), augmented by objectives."""
        for objective in self.objectives:
            clean = objective.augment_concat(clean, generator)
        return clean
