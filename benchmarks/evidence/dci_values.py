"""From the DCI bench's cells to figures by subject: of a setting, or of a curve of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .claims import AREA
from .dci_settings import CURVES
from .intervals import Estimate, estimate, frontier_area

Cells = Mapping[tuple[str, int, int], Mapping[str, Any]]
"""(setting, subject, training seed) to the cell that `dci_cells.make_cell` made."""


def values(cells: Cells, name: str, measure: str) -> dict[int, float]:
    """A measure of a setting, or of a curve of settings, by subject; subjects that miss a point of it are left out."""
    settings = CURVES.get(name, (name,))
    subjects = sorted({subject for _, subject, _ in cells})
    own = {subject: [cells[setting, subject, 0] for setting in settings if (setting, subject, 0) in cells]
           for subject in subjects}
    return {subject: _of(points, measure) for subject, points in own.items() if len(points) == len(settings)}


def _of(points: Sequence[Mapping[str, Any]], measure: str) -> float:
    """The area that the points dominate, or the last one's figure."""
    if measure == AREA:
        return frontier_area([(point["alignment"], point["fidelity"]) for point in points])
    return float(points[-1][measure])


def difference(cells: Cells, first: str, second: str, measure: str) -> Estimate:
    """`first` minus `second` over the subjects that both have."""
    one, other = values(cells, first, measure), values(cells, second, measure)
    return estimate([one[subject] - other[subject] for subject in sorted(one.keys() & other.keys())])
