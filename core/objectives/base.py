"""What an objective is: a frozen config that may add rows, weigh pixels and add a loss term.

A training step asks every objective for its rows, sends all rows through the network in one forward, and adds
up: mean of eq. 1 over the subject rows (times every pixel weight) + each objective's term over its own rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Generator, Tensor

from ..data import TrainingData
from ..errors import InputError
from ..rows import Rows


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Base of every objective; a subclass overrides only what it does.

    Attributes:
        kind: its name in metadata; no two objectives of one kind can be combined.
        trains: what it trains beside the adapters, e.g. ``{"token_vectors"}``.
    """

    kind: ClassVar[str]
    trains: ClassVar[frozenset[str]] = frozenset()

    def check(self, data: TrainingData) -> None:
        """Raise `InputError` where this objective cannot be used with the data."""

    def extra_rows(self, subject_rows: Rows, data: TrainingData, schedule_length: int,
                   generator: Generator) -> Rows | None:
        """Rows that this objective adds to the forward; `generator` is its own, new for every micro-step."""
        return None

    def pixel_weight(self, subject_rows: Rows) -> Tensor | None:
        """Weight of eq. 1 at each pixel of the subject rows, (B, 1, h, w)."""
        return None

    def term(self, squared_error: Tensor, rows: Rows) -> Tensor:
        """The loss term, a scalar, from the squared error (N, C, h, w) of the rows this objective added."""
        raise NotImplementedError(f"{self.kind} adds rows but no loss term")

    def to_dict(self) -> dict[str, Any]:
        """What metadata and run keys hold."""
        return {"kind": self.kind, **asdict(self)}


def combine(objectives: Iterable[Objective]) -> tuple[Objective, ...]:
    """An unordered set of objectives, in a fixed order so that the graph's order cannot change a result.

    Raises:
        InputError: when two objectives of one kind are combined.
    """
    ordered = tuple(sorted(objectives, key=lambda objective: objective.kind))
    for first, second in zip(ordered, ordered[1:], strict=False):
        if first.kind == second.kind:
            raise InputError("objective", f"{first.kind} twice", "each kind of objective once",
                             "Remove one of the two nodes, or set the weight you want on one of them.")
    return ordered
