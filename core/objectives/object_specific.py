"""Object-specific loss for one photo with a mask (Lu, Xie, Guo 2024, eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Generator, Tensor

from ..errors import require
from ..noise_source import NoiseSource
from ..rows import Rows
from .base import Objective, Outcome
from .masked import require_masks

if TYPE_CHECKING:
    from ..data import TrainingData


@dataclass(frozen=True, kw_only=True)
class ObjectSpecificLoss(Objective):
    """weight ‖m (eps - eps_theta(z~_t, t, c_m))‖² with z~ = z m and c_m = 'a {V} {noun}', beside the whole
    image's eq. 1 at the same noise and timestep. With m = 1 and c_m = c the two together are twice eq. 1.

    Source: eq. 4; its target eps m + eps_theta (1 - m) differs from the prediction inside the mask only. The
    mask is binarised at latent size. For v and flow models the target is that of z~.

    Attributes:
        weight: 1 in the paper.
        dilation: pixels by which the mask is grown before it is brought to latent size.
    """

    kind: ClassVar[str] = "object_specific_loss"
    weight: float = 1.0
    dilation: int = 0

    def __post_init__(self) -> None:
        require(self.weight > 0, "object-specific weight", self.weight, "a number above 0",
                "Use 1, or turn it off.")
        require(self.dilation >= 0, "dilation", self.dilation, "0 pixels or more", "Use 0.")

    def check(self, data: TrainingData) -> None:
        require_masks(data)
        for number, example in enumerate(data.examples, start=1):
            assert example.mask is not None
            require(bool((example.mask >= 0.5).any()), "masks",
                    f"the mask of photo {number}, which covers no latent pixel by half", "a larger subject",
                    "Raise dilation, or crop the photo closer to the subject.")

    def extra_rows(self, subject_rows: Rows, data: TrainingData, source: NoiseSource,
                   generator: Generator) -> Rows:
        assert subject_rows.examples is not None and subject_rows.masks is not None  # check() saw to it
        masks = (subject_rows.masks >= 0.5).to(subject_rows.latents)
        return Rows(
            latents=subject_rows.latents * masks,
            noise=subject_rows.noise,
            index=subject_rows.index,
            prompts=tuple(data.examples[example].object_caption for example in subject_rows.examples),
            examples=subject_rows.examples,
            masks=masks,
        )

    def term(self, outcome: Outcome) -> Tensor:
        assert outcome.rows.masks is not None
        return self.weight * (outcome.rows.masks * outcome.error).mean()
