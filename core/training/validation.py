"""When is a run good enough? The loss on held-out photos at fixed noise and levels, and the best of its checkpoints.

The training loss jumps with the noise level that each step draws; at fixed draws it is a curve that can be compared
from step to step, and its minimum says when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..data.batch import Rows
from ..data.examples import TrainingData, generator_for
from ..errors import require

BestBy = Literal["last", "validation_loss", "clip_i", "clip_t", "dino"]
LOWER_IS_BETTER = ("validation_loss",)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """How a run is validated while it trains.

    Attributes:
        every: steps between two validations; one more is made at the end.
        draws: noise levels per held-out photo, spread evenly over the schedule.
        best_by: the figure that chooses the checkpoint that the run hands on; "last" hands on the last one.
        patience: validations without an improvement of `best_by` after which the run ends; 0 = never.
        pictures: pictures per validation for the figures that look at pictures.
    """

    every: int = 50
    draws: int = 8
    best_by: BestBy = "validation_loss"
    patience: int = 0
    pictures: int = 4

    def __post_init__(self) -> None:
        for name in ("every", "draws", "pictures"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more", "Use the default.")
        require(self.best_by in get_args(BestBy), "best_by", repr(self.best_by),
                "one of " + ", ".join(get_args(BestBy)), "Choose one of them.")
        require(self.patience >= 0, "patience", self.patience, "0 or more", "Use 0 to train all steps.")
        require(self.patience == 0 or self.best_by != "last", "patience", self.patience, "0 where best_by is last",
                "Choose the figure that should improve.")


def validation_rows(data: TrainingData, levels: int, draws: int) -> list[Rows]:
    """For each held-out photo `draws` rows at levels in the middle of even parts of the schedule, always with the
    same noise."""
    index = ((torch.arange(draws) + 0.5) / draws * levels).long()
    noise = [torch.randn(draws, *example.latents.shape, generator=generator_for(0, "validation", number))
             for number, example in enumerate(data.examples)]
    return [Rows(latents=example.latents.float().expand(draws, -1, -1, -1), noise=own, index=index,
                 prompts=(example.caption,) * draws,
                 references=(example.references,) * draws if example.references else ())
            for example, own in zip(data.examples, noise, strict=True)]


class History:
    """The validation figures of a run, in order of their steps.

    Args:
        config: what is looked at.
        figures: those of the run before it was stopped: dicts with "step" and the figures' names.
    """

    def __init__(self, config: ValidationConfig, figures: Sequence[Mapping[str, float]] = ()):
        self.config = config
        self.figures: list[dict[str, Any]] = [dict(entry) for entry in figures]

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of a step; one of the same step is kept once."""
        if all(entry["step"] != step for entry in self.figures):
            self.figures.append({"step": step, **figures})

    def losses(self) -> dict[int, float]:
        """The validation loss by step."""
        return {int(entry["step"]): entry["validation_loss"] for entry in self.figures if "validation_loss" in entry}

    def best_step(self, until: int) -> int | None:
        """The step of the best figure up to a step, the earliest of equals; None where nothing chooses."""
        name = self.config.best_by
        validated = [entry for entry in self.figures if entry["step"] <= until and name in entry]
        if not validated:
            return None
        sign = 1 if name in LOWER_IS_BETTER else -1
        return int(min(validated, key=lambda entry: (sign * entry[name], entry["step"]))["step"])

    def end(self, steps: int) -> int:
        """The step at which the run ends: the last one, or an earlier one when patience is over."""
        if not self.config.patience:
            return steps
        for number, entry in enumerate(self.figures):
            best = self.best_step(entry["step"])
            since = sum(earlier["step"] > (best or 0) for earlier in self.figures[:number + 1])
            if since >= self.config.patience:
                return min(steps, int(entry["step"]))
        return steps
