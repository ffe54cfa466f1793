"""From cells to figures: bootstrap intervals over subjects and seeds, frontiers, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.stats import bootstrap

CONFIDENCE = 0.95
RESAMPLES = 4000
FEWEST = 5
"""Units below which a bootstrap says too little for an interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: over `count` units (subjects, or subjects times seeds).
        low: lower end of the 95 % bootstrap interval; NaN for fewer than `FEWEST` units.
        high: its upper end.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.3f} (n = {self.count})"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and percentile bootstrap interval (scipy's)."""
    kept = numpy.array([value for value in values if not math.isnan(value)])
    if len(kept) < FEWEST:
        return Estimate(float(kept.mean()) if len(kept) else math.nan, math.nan, math.nan, len(kept))
    if numpy.ptp(kept) == 0:
        return Estimate(float(kept[0]), float(kept[0]), float(kept[0]), len(kept))
    found = bootstrap((kept,), numpy.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile",
                      rng=numpy.random.default_rng(0)).confidence_interval
    return Estimate(float(kept.mean()), float(found.low), float(found.high), len(kept))


def frontier_area(points: Sequence[tuple[float, float]]) -> float:
    """Area of the unit square that some point dominates: the summary of a curve of (alignment, fidelity), both 0..1.

    A method with a higher curve, or a longer one, has more of it.
    """
    area, height = 0.0, 0.0
    for x, y in sorted(((max(0.0, x), max(0.0, y)) for x, y in points), reverse=True):
        if y > height:
            area += x * (y - height)
            height = y
    return area


def verdict(difference: Estimate, expected: int) -> str:
    """What a paired difference says about a claim that expects it above (+1) or below (-1) zero."""
    if math.isnan(difference.low):
        return "too few"
    if difference.low <= 0 <= difference.high:
        return "undecided"
    return "supported" if math.copysign(1, difference.mean) == expected else "contradicted"
