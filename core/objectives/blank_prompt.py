"""Blank-prompt preservation (ai-toolkit's name): without a prompt the network stays what it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Generator, Tensor

from ..data.batch import Rows, SubjectRows
from ..data.noise import NoiseSource
from ..errors import require
from .base import Objective, Outcome
from .base_prior import taught_by_base

if TYPE_CHECKING:
    from ..data.examples import TrainingData

BLANK = ""


@dataclass(frozen=True, kw_only=True)
class BlankPromptPreservation(Objective):
    """With probability p: λ E ‖eps_base(z_t, t, '') - eps_theta(z_t, t, '')‖² on the subject's own latents, noise and
    timestep, beside eq. 1.

    The empty prompt is what classifier-free guidance subtracts: it is not to learn the subject. A step with it costs
    two rows more per photo, one of them without gradients; a step without it costs nothing.

    Attributes:
        weight: λ.
        probability: p, of a batch to have the term.
    """

    kind: ClassVar[str] = "blank_prompt"
    weight: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        require(self.weight > 0, "blank-prompt weight", self.weight, "a number above 0",
                "Use 1, or disconnect blank-prompt preservation.")
        require(0 < self.probability <= 1, "probability", self.probability, "above 0, up to 1", "Use 1.")

    def prepare(self, data: TrainingData) -> TrainingData:
        """The data with the empty prompt among its texts."""
        return replace(data, other_prompts=(*data.other_prompts, BLANK))

    def check(self, data: TrainingData) -> None:
        """The two cancel out: a dropped caption teaches the photo to the empty prompt."""
        require(not any(example.caption_dropout for example in data.examples), "caption_dropout",
                "dropped captions with blank-prompt preservation", "one of the two",
                "Set caption_dropout to 0, or remove blank-prompt preservation.")

    def extra_rows(self, subject_rows: SubjectRows, data: TrainingData, source: NoiseSource,
                   generator: Generator) -> Rows | None:
        if float(torch.rand((), generator=generator)) >= self.probability:
            return None
        return taught_by_base(subject_rows, [BLANK] * len(subject_rows))

    def term(self, outcome: Outcome[Rows]) -> Tensor:
        return self.weight * outcome.error.mean()
