"""How well does a mask or a map cover the truth? IoU, its interval, thresholds, and what a grid allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RESAMPLES = 2000
GRID = 12
"""Cells of the pocket model's finest attention on a side."""


def iou(found: Any, truth: Any) -> float:
    return float((found & truth).sum() / (found | truth).sum().clamp_min(1))


def area_iou(values: Any, truth: Any) -> float:
    """IoU of the highest pixels, as many as the truth has: no threshold to choose, but the area is told."""
    limit = values.flatten().sort(descending=True).values[int(truth.sum()) - 1]
    return iou(values >= limit, truth)


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % bootstrap interval over pictures, in words."""
    low, high = bounds(values)
    return f"{sum(values) / len(values):.3f} ({low:.3f} to {high:.3f})"


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean over pictures."""
    import numpy

    rng = numpy.random.default_rng(0)
    means = numpy.asarray(values)[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = numpy.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def choose(maps: dict[tuple[str, str], list[Any]], truths: list[Any]) -> tuple[dict[tuple[str, str], float], Any]:
    """The best threshold of every kind of map on the development cases, and the best kind."""
    import numpy

    thresholds, best = {}, {}
    for key, values in maps.items():
        pairs = list(zip(values, truths, strict=True))
        tried = {float(limit): numpy.mean([iou(each >= limit, truth) for each, truth in pairs])
                 for limit in numpy.arange(0.1, 0.9, 0.05).round(2)}
        thresholds[key] = max(tried, key=lambda limit: tried[limit])
        best[key] = max(tried.values())
    return thresholds, max(best, key=lambda key: best[key])


def ceiling(truth: Any, cells: int) -> float:
    """IoU of the exact mask after a layer's grid: what no mask of that grid can pass by much."""
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    small = adaptive_avg_pool2d(truth.float()[None, None], cells)
    return iou(interpolate(small, size=truth.shape, mode="bilinear", align_corners=False)[0, 0] >= 0.5, truth)
