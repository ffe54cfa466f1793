"""Masked prior: outside the mask the network keeps what it would have predicted untrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..data.batch import SubjectRows
from ..errors import require
from .base import Objective
from .masked import require_masks

if TYPE_CHECKING:
    from ..data.examples import TrainingData


@dataclass(frozen=True, kw_only=True)
class MaskedPrior(Objective):
    """Eq. 1 with the target m eps + (1 - m) eps_base(z_t, t, c), where eps_base is the base prediction,
    the frozen network's; with m = 1 it is eq. 1.

    How much the background counts is `MaskedLoss.background_weight`. The base network reads the same caption as far as
    it can: an identifier is the rare word that it always was.

    Attributes:
        dilation: pixels by which the mask is grown before it is brought to latent size.
    """

    kind: ClassVar[str] = "masked_prior"
    needs_base: ClassVar[bool] = True
    needs_masks: ClassVar[bool] = True
    later_fields: ClassVar[tuple[str, ...]] = ("dilation",)
    dilation: int = 0

    def __post_init__(self) -> None:
        require(self.dilation >= 0, "dilation", self.dilation, "0 pixels or more", "Use 0.")

    @property
    def mask_dilation(self) -> int:
        return self.dilation

    def check(self, data: TrainingData) -> None:
        require_masks(data, self.dilation)

    def target(self, target: Tensor, base: Tensor, rows: SubjectRows) -> Tensor:
        mask = rows.masks[self.dilation]
        return mask * target + (1 - mask) * base
