"""Prior preservation: the class stays what it was (DreamBooth, arXiv:2208.12242, 3.2, eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Generator, Tensor

from ..data.batch import Rows, SubjectRows
from ..data.noise import NoiseSource
from ..errors import require
from .base import Objective, Outcome

if TYPE_CHECKING:
    from ..data.examples import TrainingData


@dataclass(frozen=True, kw_only=True)
class PriorPreservation(Objective):
    """λ E ‖eps' - eps_theta(z_pr,t', t', c_pr)‖²: beside every subject row one class image of its noun, at
    its own noise and timestep.

    Attributes:
        weight: λ; 1 in the paper.
    """

    kind: ClassVar[str] = "prior_preservation"
    needs_class_images: ClassVar[bool] = True
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(self.weight > 0, "prior weight", self.weight, "a number above 0",
                "Use 1, or disconnect the prior.")

    def check(self, data: TrainingData) -> None:
        given = ", ".join(map(repr, data.class_latents))
        for noun in data.nouns:
            found = len(data.class_latents.get(noun, ())) > 0
            require(found or bool(noun.strip()), "class_noun", "an empty text for a subject", "what it is, in one or a "
                    "few plain words: class images are pictures of that", "Type it where the subject's photos are.")
            require(found, "prior", f"no class images of {noun!r}" + (f", but of {given}" if given else ""),
                    "class images of every subject's class noun",
                    f"Sample class images of {noun!r}, or give images of your own, or let the base model be the prior.")

    def extra_rows(self, subject_rows: SubjectRows, data: TrainingData, source: NoiseSource,
                   generator: Generator) -> Rows:
        nouns, images = subject_rows.class_nouns, subject_rows.class_images
        latents = torch.stack([data.class_latents[noun][image] for noun, image in zip(nouns, images, strict=True)])
        return Rows(
            latents=latents,
            noise=source.noise(latents.shape, generator),
            index=source.levels(len(nouns), generator),
            prompts=tuple(data.class_caption(noun, image) for noun, image in zip(nouns, images, strict=True)),
        )

    def term(self, outcome: Outcome[Rows]) -> Tensor:
        return self.weight * outcome.error.mean()
