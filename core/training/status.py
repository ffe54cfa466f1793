"""What a run says of itself while it trains: "step 170 of 300 · loss 0.41 · 0.12 s/step · 16 s left · 3.1 GB"."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

WINDOW = 20
"""Steps whose median is the time of a step: pictures and saves between steps do not count."""
EVERY_SECONDS = 1.0


class Status:
    """The line, about once a second.

    Args:
        total: steps of the run.
        memory: bytes in use where it trains.
        clock: seconds, for tests.
    """

    def __init__(self, total: int, memory: Callable[[], int], clock: Callable[[], float] = time.monotonic):
        self.total, self._memory, self._clock = total, memory, clock
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._last_step: float | None = None
        self._last_line = float("-inf")

    def line(self, step: int, losses: Sequence[float]) -> str | None:
        """The line after a step; None where the last one is not a second old.

        Args:
            step: steps so far.
            losses: one per step; their mean over a tenth of the run is told, since single ones jump with the timestep.
        """
        now = self._clock()
        if self._last_step is not None:
            self._seconds.append(now - self._last_step)
        self._last_step = now
        if now - self._last_line < EVERY_SECONDS and step < self.total:
            return None
        self._last_line = now
        return " · ".join((f"step {step} of {self.total}", *self._loss(losses), *self._pace(step),
                           f"{self._memory() / 1e9:.1f} GB"))

    def _loss(self, losses: Sequence[float]) -> list[str]:
        recent = losses[-max(1, self.total // 10):]
        return [f"loss {statistics.fmean(recent):.3g}"] if recent else []

    def _pace(self, step: int) -> list[str]:
        if not self._seconds:
            return []
        seconds = statistics.median(self._seconds)
        return [f"{seconds:.2g} s/step", f"{duration(seconds * (self.total - step))} left"]


def duration(seconds: float) -> str:
    """For people: "45 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def stopped(step: int, total: int, kept: int, how: str = "Stopped") -> str:
    """What a run that the user ended came to: "Stopped at step 67 of 120, kept. Press Run to go on".

    Args:
        kept: step of the state that it goes on from; 0 = none.
        how: "Paused" for one that was asked to pause.
    """
    if kept <= 0 or kept > step:
        return f"{how} at step {step} of {total}. Press Run to start again"
    if kept == step:
        return f"{how} at step {step} of {total}, kept. Press Run to go on"
    return f"{how} at step {step} of {total}, kept up to step {kept}. Press Run to go on from there"


def first_and_final(losses: Sequence[float]) -> tuple[float, float] | None:
    """The mean loss of the first and of the last tenth of a run, since single ones jump with the timestep."""
    few = max(1, len(losses) // 10)
    return (statistics.fmean(losses[:few]), statistics.fmean(losses[-few:])) if losses else None
