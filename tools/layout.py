"""Where a workflow's nodes stand: groups from left to right, each of as many columns as make the whole largest on a
screen when the editor fits it into view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

SCREEN: Final = (1900, 1050)
"""Of the editor, in pixels: that of a usual screen."""
FILLED, MARGIN = 0.75, 20
"""Of it, by *Fit view*; and what that adds to the width and the height."""
TITLE_BAR, BELOW, BETWEEN, GROUPS_APART, GROUP_TITLE, EDGE = 30, 8, 20, 40, 44, 12

Form = dict[str, Any]


class Size(NamedTuple):
    """Of all groups with their frames, and how the editor opens them."""

    width: float
    height: float

    @property
    def zoom(self) -> float:
        """What *Fit view* makes of it."""
        return FILLED * min(SCREEN[0] / (self.width + MARGIN), SCREEN[1] / (self.height + MARGIN))

    @property
    def view(self) -> dict[str, Any]:
        """The editor's view of a file that it opens: that zoom, at the left and the top."""
        return {"scale": round(self.zoom, 3), "offset": [110, 190]}


def place(groups: Sequence[Sequence[Form]]) -> Size:
    """Give every node of each group its position, in the order of the group, so that the zoom is the largest.

    Args:
        groups: nodes in the editor's form, with their sizes.
    """
    lowest = max(_height(form) for group in groups for form in group)
    highest = max(sum(map(_height, group)) for group in groups)
    limits = range(int(lowest), max(int(highest), int(lowest)) + 20, 10)
    return _placed(groups, max(limits, key=lambda limit: _placed(groups, limit).zoom))


def columns_of(group: Sequence[Form], limit: float) -> list[list[Form]]:
    """The nodes of a group in order, in the fewest columns that are no higher than this, and those alike in height."""
    few = _filled(group, limit)
    total = sum(map(_height, group))
    for lower in range(int(total / len(few)), int(limit), 10):
        if len(even := _filled(group, lower)) == len(few):
            return even
    return few


def frame(members: Sequence[Form]) -> list[float]:
    """A group's frame around its nodes: left, top, width, height."""
    left, top = (min(form["pos"][axis] for form in members) for axis in (0, 1))
    right, foot = (max(form["pos"][axis] + form["size"][axis] for form in members) for axis in (0, 1))
    top -= TITLE_BAR + GROUP_TITLE
    return [left - EDGE, top, right - left + 2 * EDGE, foot - top + EDGE]


def _placed(groups: Sequence[Sequence[Form]], limit: float) -> Size:
    left, foot = 0.0, 0.0
    for group in groups:
        for column in columns_of(group, limit):
            top = 0.0
            for form in column:
                form["pos"] = [left, top]
                top += _height(form)
            foot = max(foot, top - BELOW - TITLE_BAR)
            left += max(form["size"][0] for form in column) + BETWEEN
        left += GROUPS_APART - BETWEEN
    return Size(left - GROUPS_APART + 2 * EDGE, foot + TITLE_BAR + GROUP_TITLE + EDGE)


def _filled(group: Sequence[Form], limit: float) -> list[list[Form]]:
    columns: list[list[Form]] = [[]]
    for form in group:
        if columns[-1] and sum(map(_height, columns[-1])) + _height(form) > limit:
            columns.append([])
        columns[-1].append(form)
    return columns


def _height(form: Form) -> float:
    return float(form["size"][1] + TITLE_BAR + BELOW)
