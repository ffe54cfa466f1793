"""How different are pictures of one prompt? Mean distance of their pairs: more is more diverse.

DreamBooth's DIV is this with LPIPS (`load_lpips`); the distances here need no weights, or an encoder that is there
anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from .encoders import ImageEncoder

PictureDistance = Callable[[Tensor, Tensor], Tensor]
"""Pictures (N, 3, H, W) and (N, 3, H, W) in 0..1 to their N distances."""
COARSE = 24
"""Side in pixels at which pictures are compared without an encoder: layout and colours, no detail."""


def diversity(distance: PictureDistance, pictures: Tensor) -> float:
    """Mean distance of the pairs among (N, 3, H, W), all of one prompt; NaN for a single picture.

    Vectors (N, P) of pictures serve as well, with a distance of vectors.

    Source: DreamBooth (arXiv:2208.12242), 4.2, DIV.
    """
    pairs = list(combinations(range(len(pictures)), 2))
    if not pairs:
        return math.nan
    first, second = (pictures[torch.tensor(rows)] for rows in zip(*pairs, strict=True))
    return float(distance(first, second).mean())


def coarse_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference of pixels at 24 x 24: (N, 3, H, W) twice to (N,)."""
    small = [functional.interpolate(rows.float(), size=(COARSE, COARSE), mode="area") for rows in (first, second)]
    return (small[0] - small[1]).abs().flatten(1).mean(1)


def encoder_distance(encoder: ImageEncoder) -> PictureDistance:
    """1 - cos of an encoder's vectors."""
    def distance(first: Tensor, second: Tensor) -> Tensor:
        return cosine_distance(*(encoder.embed_images(rows.movedim(1, -1)) for rows in (first, second)))

    return distance


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """1 - cos of unit vectors (N, P) and (N, P)."""
    return 1 - (first * second).sum(-1)
