"""Prior preservation without class images: on the class prompt the network stays what it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from torch import Generator, Tensor

from ..data.batch import Rows
from ..data.noise import NoiseSource
from ..errors import require
from ..subject.subject import CLASS_TEMPLATE, fill
from .base import Objective, Outcome

if TYPE_CHECKING:
    from ..data.examples import TrainingData


@dataclass(frozen=True, kw_only=True)
class BasePrior(Objective):
    """λ E ‖eps_base(z_t, t, c_pr) - eps_theta(z_t, t, c_pr)‖²: beside every subject row the same latents, noise and
    timestep under 'a {noun}', whose target is the base prediction (see `Outcome`).

    Deviation from DreamBooth's eq. 2: the pictures are the subject's own, so it says nothing of how other instances of
    the class look, but that these are not to change. It costs two rows more per photo, one of them without gradients.

    Attributes:
        weight: λ.
    """

    kind: ClassVar[str] = "base_prior"
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(self.weight > 0, "prior weight", self.weight, "a number above 0", "Use 1, or disconnect the prior.")

    def prepare(self, data: TrainingData) -> TrainingData:
        """The data with a class prompt for every noun; a pool of class images keeps its own."""
        prompts = {noun: fill(CLASS_TEMPLATE, "", noun) for noun in data.nouns}
        return replace(data, class_prompts={**prompts, **data.class_prompts})

    def extra_rows(self, subject_rows: Rows, data: TrainingData, source: NoiseSource,
                   generator: Generator) -> Rows:
        assert subject_rows.class_nouns is not None  # subject rows have them
        return replace(subject_rows, prompts=tuple(data.class_prompts[noun] for noun in subject_rows.class_nouns),
                       is_taught_by_base=True)

    def term(self, outcome: Outcome) -> Tensor:
        return self.weight * outcome.error.mean()
