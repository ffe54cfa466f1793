"""Masks in the loss: a pixel mask brought to latent size, and the plain masked loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor
from torch.nn import functional

from ..data.batch import SubjectRows
from ..errors import require
from .base import Objective

if TYPE_CHECKING:
    from ..data.examples import TrainingData


def mask_to_latent(mask: Tensor, height: int, width: int, dilation: int = 0) -> Tensor:
    """Mask (H, W) in 0..1, grown by `dilation` pixels, as area averages (1, height, width)."""
    pixels = mask.float()[None, None]
    if dilation:
        pixels = functional.max_pool2d(pixels, 2 * dilation + 1, stride=1, padding=dilation)
    return functional.interpolate(pixels, size=(height, width), mode="area")[0]


@dataclass(frozen=True, kw_only=True)
class MaskedLoss(Objective):
    """Eq. 1 weighed by w = (m + w_b (1 - m)) / max(mean, floor); with m = 1 it is eq. 1.

    Without the division a small subject would get a small loss, without the floor a tiny one a huge one.

    Attributes:
        background_weight: w_b, 0..1; 1 turns the mask off.
        normalise_floor: smallest mean that is divided by, 0..1; 1 = no normalisation.
        dilation: pixels by which the mask is grown before it is brought to latent size.
    """

    kind: ClassVar[str] = "masked_loss"
    needs_masks: ClassVar[bool] = True
    background_weight: float = 0.0
    normalise_floor: float = 0.1
    dilation: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.background_weight <= 1, "background_weight", self.background_weight, "0 to 1",
                "Use 0 to ignore the background.")
        require(0 < self.normalise_floor <= 1, "normalise_floor", self.normalise_floor, "above 0, up to 1",
                "Use 0.1, or 1 for no normalisation.")
        require(self.dilation >= 0, "dilation", self.dilation, "0 pixels or more", "Use 0.")

    @property
    def mask_dilation(self) -> int:
        return self.dilation

    @property
    def background_weight_of_eq1(self) -> float:
        return self.background_weight

    def check(self, data: TrainingData) -> None:
        require_masks(data, self.dilation)

    def pixel_weight(self, subject_rows: SubjectRows) -> Tensor:
        mask = subject_rows.masks[self.dilation]
        weight = mask + self.background_weight * (1 - mask)
        return weight / weight.mean(dim=(1, 2, 3), keepdim=True).clamp(min=self.normalise_floor)


def require_masks(data: TrainingData, dilation: int) -> None:
    """Raise `InputError` unless every view of every photo has a mask of its latents' size, grown by so many pixels,
    within 0..1 and not empty; and one for each of several objects."""
    for number, example in enumerate(data.examples, start=1):
        for view in example.views:
            require(bool(view.masks), "masks", f"no mask for photo {number}", "a mask for every photo",
                    "Connect a mask beside each photo, or remove the masked loss.")
            require(dilation in view.masks, "masks", f"none grown by {dilation} pixels for photo {number}",
                    "masks as every objective reads them", "Make the data for the objectives that it is used with.")
            whole, objects = view.masks[dilation]
            _check_mask(whole, view.latents, f"photo {number}")
            for mask, named in zip(() if objects is None else objects, example.objects, strict=True):
                _check_mask(mask[None], view.latents, f"{named.identifier!r} in photo {number}")


def _check_mask(mask: Tensor, latents: Tensor, owner: str) -> None:
    require(mask.shape[-2:] == latents.shape[-2:], "masks", f"a mask of {tuple(mask.shape[-2:])}",
            f"the latents' size {tuple(latents.shape[-2:])}", "Resize the mask with the photo.")
    low, high = float(mask.min()), float(mask.max())
    require(low >= 0 and high <= 1, "masks", f"values {low:g} to {high:g}", "values 0 to 1",
            "Divide a 0..255 mask by 255.")
    require(high > 0, "masks", f"an empty mask for {owner}", "some white pixels on the subject",
            "Paint the subject white; if it is near the photo's edge, use aspect-ratio buckets or less crop jitter.")
