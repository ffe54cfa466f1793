"""A mean and how sure it is: percentile bootstrap over units (prompts, subjects, pictures)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWEST = 5
"""Units below which a bootstrap says too little for an interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: over `count` units; NaN for none.
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

    @property
    def has_interval(self) -> bool:
        """Whether there were units enough."""
        return not math.isnan(self.low)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % percentile bootstrap interval (scipy's, always with the same resamples); NaNs are left out."""
    kept = numpy.array([value for value in values if not math.isnan(value)], dtype=float)
    if len(kept) < FEWEST:
        return Estimate(float(kept.mean()) if len(kept) else math.nan, math.nan, math.nan, len(kept))
    if numpy.ptp(kept) == 0:
        return Estimate(float(kept[0]), float(kept[0]), float(kept[0]), len(kept))
    from scipy.stats import bootstrap  # a second of import time that most graphs never need

    found = bootstrap((kept,), numpy.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile",
                      rng=numpy.random.default_rng(0)).confidence_interval
    return Estimate(float(kept.mean()), float(found.low), float(found.high), len(kept))
