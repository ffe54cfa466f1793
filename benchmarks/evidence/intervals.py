"""From cells to figures: means over subjects with their intervals, frontiers, curves at equal fidelity, and verdicts.

The unit is the **subject**. Seeds of one subject are averaged first (`subject_means`): what differs between two seeds
of a subject is then inside that subject's mean, and resampling subjects resamples it with them. To resample seeds
again, or to count subject times seed as so many units, would count the same subjects several times and make intervals
too narrow. No figure says what would happen with other prompts: all methods get the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from scipy import stats

from ...core.evaluation.metrics.intervals import FEWEST, Estimate, estimate, expanded

__all__ = ["FEWEST", "LEVEL", "Estimate", "at_equal_fidelity", "chance_of", "estimate", "expanded", "frontier_area",
           "holm", "subject_means", "value_at", "verdict"]
LEVEL = 0.05
"""Of all claims of a page together: the chance that one true zero among them is called decided."""
Points = Sequence[tuple[float, float]]


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
    for (start, before), (stop, after) in pairwise((*curve[:1], *curve)):  # the first point once with itself
        if start == level:
            return before
        if min(start, stop) < level <= max(start, stop):
            return before + (after - before) * (level - start) / (stop - start)
    return math.nan


def chance_of(differences: Sequence[float]) -> float:
    """Two-sided p of the paired t-test: how often differences of mean zero lie this far off. It takes them as normal.

    NaN for fewer units than an interval needs, and where all differences are zero.
    """
    if len(differences) < FEWEST or not any(differences):
        return math.nan
    if len(set(differences)) == 1:  # no spread at all
        return 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(chances: Sequence[float]) -> list[float]:
    """Each p as Holm corrects it for all that are there (NaNs are not): reject those at most `LEVEL`.

    p'_(i) = max over j <= i of min(1, (m - j) p_(j)), p sorted from j = 0. Source: Holm, Scand. J. Stat. 6 (1979).
    """
    order = sorted((index for index, chance in enumerate(chances) if not math.isnan(chance)),
                   key=lambda index: chances[index])
    corrected, highest = [math.nan] * len(chances), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * chances[index]))
        corrected[index] = highest
    return corrected


def verdict(difference: Estimate, expected: int) -> str:
    """What a paired difference says about a claim that expects it above (+1) or below (-1) zero."""
    if math.isnan(difference.low):
        return "too few"
    if difference.low <= 0 <= difference.high:
        return "undecided"
    return "supported" if math.copysign(1, difference.mean) == expected else "contradicted"
