"""Object-specific loss for photos with masks, of one object or several (Lu, Xie, Guo 2024, eqs. 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor

from ..data.batch import Rows, SubjectRows
from ..data.noise import NoiseSource
from ..errors import require
from .base import Objective, Outcome
from .masked import require_masks

if TYPE_CHECKING:
    from ..data.examples import Example, Masks, TrainingData


class Cut(NamedTuple):
    """One object as it is cut out of a subject row: its mask (1, h, w) of zeros and ones, and its prompt c_m,i."""

    row: int
    mask: Tensor
    prompt: str


@dataclass(frozen=True, kw_only=True, eq=False)
class CutRows(Rows):
    """Rows of single objects.

    Attributes:
        parents: which subject row each was cut out of.
        masks: (N, 1, h, w), zeros and ones.
    """

    parents: tuple[int, ...]
    masks: Tensor

    def to(self, device: torch.device) -> Self:
        return replace(super().to(device), masks=self.masks.to(device))


@dataclass(frozen=True, kw_only=True)
class ObjectSpecificLoss(Objective):
    """weight Σ_{i in S} ‖m_i (eps - eps_theta(z~_i,t, t, c_m,i))‖² with z~_i = z m_i and c_m,i = 'a {V_i} {noun_i}',
    beside the whole image's eq. 1 at the same noise and timestep, whose caption names all objects.

    S is a random subset of k of the photo's r objects, new in every step; all of them where r <= k. With one object,
    m = 1 and c_m = c the two together are twice eq. 1.

    Source: eqs. 4 and 5; the target eps m + eps_theta (1 - m) differs from the prediction inside the mask only. Masks
    are binarised at latent size. For v and flow models the target is that of z~.

    Attributes:
        weight: 1 in the paper.
        dilation: pixels by which the mask is grown before it is brought to latent size.
        objects_per_step: k; 2 in METHODS 3.
    """

    kind: ClassVar[str] = "object_specific_loss"
    needs_masks: ClassVar[bool] = True
    separates_objects: ClassVar[bool] = True
    weight: float = 1.0
    dilation: int = 0
    objects_per_step: int = 2

    def __post_init__(self) -> None:
        require(self.weight > 0, "object-specific weight", self.weight, "a number above 0",
                "Use 1, or turn it off.")
        require(self.dilation >= 0, "dilation", self.dilation, "0 pixels or more", "Use 0.")
        require(self.objects_per_step >= 1, "objects_per_step", self.objects_per_step, "1 or more", "Use 2.")

    @property
    def mask_dilation(self) -> int:
        return self.dilation

    def check(self, data: TrainingData) -> None:
        require_masks(data, self.dilation)
        for number, example in enumerate(data.examples, start=1):
            for view in example.views:
                for mask, _ in _objects(example, view.masks[self.dilation]):
                    require(bool((mask >= 0.5).any()), "masks",
                            f"the mask of photo {number}, which covers no latent pixel by half", "a larger subject",
                            "Raise dilation, or crop the photo closer to the subject.")

    def most_rows(self, batch: int, objects: int) -> int:
        return batch * min(objects, self.objects_per_step)

    def extra_rows(self, subject_rows: SubjectRows, data: TrainingData, source: NoiseSource,
                   generator: Generator) -> CutRows:
        cuts = [cut for row in range(len(subject_rows)) for cut in self._cuts(row, subject_rows, data, generator)]
        parents = [cut.row for cut in cuts]
        masks = torch.stack([cut.mask for cut in cuts]).to(subject_rows.latents)
        return CutRows(
            latents=subject_rows.latents[parents] * masks,
            noise=subject_rows.noise[parents],
            index=subject_rows.index[parents],
            prompts=tuple(cut.prompt for cut in cuts),
            references=tuple(subject_rows.references[row] for row in parents) if subject_rows.references else (),
            parents=tuple(parents),
            masks=masks,
        )

    def term(self, outcome: Outcome[CutRows]) -> Tensor:
        """The mean over the photos of the sum over their objects."""
        rows = outcome.rows
        per_photo = len(rows) / len(set(rows.parents))
        return self.weight * (rows.masks * outcome.error).mean() * per_photo

    def _cuts(self, row: int, subject_rows: SubjectRows, data: TrainingData, generator: Generator) -> list[Cut]:
        """The objects of a random subset, cut out of one subject row."""
        example = data.examples[subject_rows.examples[row]]
        view = example.views[subject_rows.views[row]]
        objects = _objects(example, view.masks[self.dilation])
        if len(objects) > self.objects_per_step:
            chosen = torch.randperm(len(objects), generator=generator)[:self.objects_per_step].tolist()
            objects = [objects[number] for number in sorted(chosen)]
        return [Cut(row, (mask >= 0.5).float(), prompt) for mask, prompt in objects]


def _objects(example: Example, masks: Masks) -> list[tuple[Tensor, str]]:
    """The mask (1, h, w) and the prompt of each object in a view."""
    if masks.objects is None:
        return [(masks.whole, example.object_caption)]
    return [(mask[None], named.caption) for mask, named in zip(masks.objects, example.objects, strict=True)]
