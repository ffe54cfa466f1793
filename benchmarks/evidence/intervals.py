"""From cells to figures: means over subjects with their intervals, frontiers, curves at equal fidelity, and verdicts.

The unit is the **subject**. Seeds of one subject are averaged first (`subject_means`): what differs between two seeds
of a subject is then inside that subject's mean, and resampling subjects resamples it with them. To resample seeds
again, or to count subject times seed as so many units, would count the same subjects several times and make intervals
too narrow. No figure says what would happen with other prompts: all methods get the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy
from scipy.stats import bootstrap, norm, t

CONFIDENCE = 0.95
RESAMPLES = 10_000
FEWEST = 5
"""Units below which a bootstrap says too little for an interval."""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: over `count` units (subjects).
        low: lower end of the 95 % bootstrap interval; NaN for fewer than `FEWEST` units.
        high: its upper end.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count == 0:
            return "not measured"
        if math.isnan(self.low):
            return f"{self.mean:.3f} (n = {self.count})"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and expanded percentile bootstrap interval, one value per unit; NaNs are left out.

    The plain percentile interval of eight units holds the truth in about 90 of 100 cases, not 95: resamples of n units
    spread as n - 1 of n, and tails are normal, not Student's. `expanded` corrects both.
    """
    kept = numpy.array([value for value in values if not math.isnan(value)], dtype=float)
    if len(kept) < FEWEST:
        return Estimate(float(kept.mean()) if len(kept) else math.nan, math.nan, math.nan, len(kept))
    if numpy.ptp(kept) == 0:
        return Estimate(float(kept[0]), float(kept[0]), float(kept[0]), len(kept))
    found = bootstrap((kept,), numpy.mean, confidence_level=expanded(len(kept)), n_resamples=RESAMPLES,
                      method="percentile", rng=numpy.random.default_rng(0)).confidence_interval
    return Estimate(float(kept.mean()), float(found.low), float(found.high), len(kept))


def expanded(count: int, confidence: float = CONFIDENCE) -> float:
    """1 - 2 Phi(-sqrt(n / (n - 1)) t_{n-1}): the level to ask of a percentile bootstrap of n units.

    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69(4), 'expanded
    percentile interval'.
    """
    quantile = t.ppf(0.5 + confidence / 2, count - 1)
    return float(1 - 2 * norm.cdf(-math.sqrt(count / (count - 1)) * quantile))


def subject_means(rows: Iterable[tuple[int, float]]) -> dict[int, float]:
    """(subject, value) of every seed to one mean per subject; NaNs, and subjects of NaNs alone, are left out."""
    grouped: dict[int, list[float]] = {}
    for subject, value in rows:
        if not math.isnan(value):
            grouped.setdefault(subject, []).append(value)
    return {subject: sum(values) / len(values) for subject, values in sorted(grouped.items())}


def frontier_area(points: Points) -> float:
    """Area of the unit square that some point dominates: the summary of a curve of (alignment, fidelity), both 0..1.

    A method with a higher curve, or a longer one, has more of it.
    """
    area, height = 0.0, 0.0
    for x, y in sorted(((max(0.0, x), max(0.0, y)) for x, y in points), reverse=True):
        if y > height:
            area += x * (y - height)
            height = y
    return area


def at_equal_fidelity(first: Points, second: Points) -> float:
    """Difference, first minus second, of two curves of (fidelity, measure) at the highest fidelity that both reach.

    Between checkpoints a curve is a straight line; NaN where the curves have no fidelity in common.
    """
    level = min(max(fidelity for fidelity, _ in curve) for curve in (first, second))
    return value_at(first, level) - value_at(second, level)


def value_at(curve: Points, level: float) -> float:
    """The measure where the curve, in order of its checkpoints, first reaches a fidelity; NaN where it never does."""
    for fidelity, value in curve:
        if fidelity == level:
            return value
    for (start, before), (stop, after) in pairwise(curve):
        if min(start, stop) < level < max(start, stop):
            return before + (after - before) * (level - start) / (stop - start)
    return math.nan


def verdict(difference: Estimate, expected: int) -> str:
    """What a paired difference says about a claim that expects it above (+1) or below (-1) zero."""
    if math.isnan(difference.low):
        return "too few"
    if difference.low <= 0 <= difference.high:
        return "undecided"
    return "supported" if math.copysign(1, difference.mean) == expected else "contradicted"
