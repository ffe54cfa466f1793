"""Does a rare word pull pictures towards something? The half of a weak prior that only the diffusion model can show.

Source: DreamBooth (arXiv:2208.12242), 3.2, asks for an identifier with a weak prior in the language *and* the diffusion
model; the measure is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..errors import require
from .identifier import Candidate

FEWEST_PICTURES = 2


def picture_pull(own: Tensor, plain: Tensor) -> float:
    """1 - D(own) / D(plain), with D = mean over pairs i < j of ||f_i - f_j||²; features of shape (N, D) and (M, D).

    0: pictures of 'a {V} {noun}' differ from each other as those of 'a {noun}' do; towards 1: V makes them alike, it
    means something to the model; below 0: it makes them more different.

    Raises:
        InputError: fewer than two pictures, or all pictures of 'a {noun}' are the same.
    """
    for name, features in (("own pictures", own), ("pictures of the class", plain)):
        require(len(features) >= FEWEST_PICTURES, name, len(features), f"{FEWEST_PICTURES} or more",
                "Make for example 4.")
    spread = _spread(plain)
    require(spread > 0, "pictures of the class", "the same picture every time", "pictures that differ",
            "Use another sampler, more steps or a lower cfg.")
    return 1 - _spread(own) / spread


def _spread(features: Tensor) -> float:
    """Mean squared distance of pairs, which is twice the sum of the columns' sample variances."""
    return 2 * float(features.double().flatten(1).var(dim=0, unbiased=True).sum())


def rank_by_pictures(candidates: Sequence[Candidate], pulls: Sequence[float]) -> tuple[Candidate, ...]:
    """The candidates with their pulls, best score first."""
    measured = [replace(candidate, pull=pull) for candidate, pull in zip(candidates, pulls, strict=True)]
    return tuple(sorted(measured, key=lambda candidate: (-candidate.score, candidate.text)))
