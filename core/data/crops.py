"""Which parts of a photo are trained on, and at which size: centred squares, aspect-ratio buckets, jittered views.

Buckets: sizes of about resolution² pixels whose aspect ratios differ in small steps, so that photos of one bucket fit
into one batch and lose next to nothing at the edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from .examples import generator_for
from .options import DataOptions

MAX_ASPECT = 2.0
"""Longer photos are cropped to this ratio: beyond it networks have learned little."""
SMALLEST_STEP, LARGEST_STEP = 8, 64
SMALLEST_SIDE = 8


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A part of a photo and what it is scaled to, all in pixels.

    Attributes:
        size: (height, width) that it is scaled to.
        mirrored: whether left and right are swapped.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    mirrored: bool = False


def plan_crops(height: int, width: int, resolution: int, options: DataOptions, key: str) -> tuple[Crop, ...]:
    """All views of a photo of height x width, the centred one first; `key` seeds the jitter of the others."""
    size = find_bucket(height, width, resolution) if options.shape == "buckets" else (resolution, resolution)
    centred = centred_crop(height, width, size)
    crops = [centred, *(_jittered(centred, height, width, options.jitter, key, number)
                        for number in range(1, options.views))]
    mirrored = [replace(crop, mirrored=True) for crop in crops] if options.flip else []
    return (*crops, *mirrored)


def centred_crop(height: int, width: int, size: tuple[int, int]) -> Crop:
    """The largest centred part of a photo that has the aspect ratio of a size."""
    tall, wide = min(height, width * size[0] // size[1]), min(width, height * size[1] // size[0])
    return Crop(top=(height - tall) // 2, left=(width - wide) // 2, height=tall, width=wide, size=size)


def reference_crop(height: int, width: int, photo: tuple[int, int], crop: Crop, resolution: int, step: int) -> Crop:
    """How a reference of height x width is cut beside a view of its photo: one of the photo's own size as the view, so
    that the two stay aligned; another whole, but for what its size is rounded by, at about resolution² pixels.

    Args:
        photo: height and width of the photo.
        crop: the view of the photo.
        step: what sides in pixels are multiples of.
    """
    if (height, width) == photo:
        return crop
    scale = resolution / math.sqrt(height * width)
    size = (max(1, round(height * scale / step)) * step, max(1, round(width * scale / step)) * step)
    return replace(centred_crop(height, width, size), mirrored=crop.mirrored)


def find_bucket(height: int, width: int, resolution: int) -> tuple[int, int]:
    """The bucket whose aspect ratio is nearest to the photo's; of equals the one with most pixels."""
    aspect = math.log(min(MAX_ASPECT, max(1 / MAX_ASPECT, height / width)))

    def misfit(size: tuple[int, int]) -> tuple[float, int]:
        return round(abs(math.log(size[0] / size[1]) - aspect), 6), -size[0] * size[1]

    return min(bucket_sizes(resolution), key=misfit)


def bucket_sizes(resolution: int) -> list[tuple[int, int]]:
    """All (height, width): multiples of `bucket_step`, of at most resolution² pixels, and the square itself."""
    step = bucket_step(resolution)
    wide = [(height, resolution**2 // height // step * step) for height in range(step, resolution, step)]
    wide = [(height, width) for height, width in wide if height < width <= MAX_ASPECT * height]
    return [(resolution, resolution), *wide, *((width, height) for height, width in wide)]


def bucket_step(resolution: int) -> int:
    """A sixteenth of the resolution, down to a multiple of 8 pixels, 8 to 64."""
    return min(LARGEST_STEP, max(SMALLEST_STEP, resolution // 16 // 8 * 8))


def _jittered(centred: Crop, height: int, width: int, jitter: float, key: str, number: int) -> Crop:
    """A crop smaller by up to a fraction `jitter`, its centre moved by up to as much, within the photo."""
    shrink, down, right = torch.rand(3, generator=generator_for(0, f"crop/{key}", number), dtype=torch.float64).tolist()
    tall = max(SMALLEST_SIDE, round(centred.height * (1 - jitter * shrink)))
    wide = max(SMALLEST_SIDE, round(centred.width * (1 - jitter * shrink)))
    top = (height - tall) / 2 + (2 * down - 1) * jitter * centred.height
    left = (width - wide) / 2 + (2 * right - 1) * jitter * centred.width
    return replace(centred, top=min(max(0, round(top)), height - tall), left=min(max(0, round(left)), width - wide),
                   height=tall, width=wide)
