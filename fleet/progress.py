"""What is going on: one live table on a terminal, JSON lines otherwise."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from .engine import Outcome

LINE_SECONDS = 10.0
"""Between two lines of progress of the same job."""


class Display(Protocol):
    """Hears what the engine does."""

    def started(self, worker: int, job: str) -> None:
        """A job began."""
        ...

    def ended(self, outcome: Outcome, is_again: bool) -> None:
        """A job ended, and may be tried again."""
        ...

    def progress(self, workers: Mapping[int, Mapping[str, Any]]) -> None:
        """About once a second."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Pace:
    """Seconds left of a job, by its steps so far."""

    def __init__(self) -> None:
        self._start: dict[tuple[str, str], tuple[float, int]] = {}

    def seconds_left(self, job: str, told: Mapping[str, Any], now: float) -> float | None:
        """None before two different steps of the same node were seen."""
        step, steps, key = int(told.get("step", 0)), int(told.get("steps", 0)), (job, str(told.get("node")))
        since, first = self._start.setdefault(key, (now, step))
        return (now - since) / (step - first) * (steps - step) if step > first else None


class JsonLines:
    """One JSON object a line.

    Args:
        total: jobs of the plan that are not done yet.
    """

    def __init__(self, total: int, output: TextIO | None = None):
        self.total, self.ended_jobs = total, 0
        self._output, self._jobs, self._pace = output or sys.stdout, dict[int, str](), Pace()
        self._said: dict[int, float] = {}

    def _say(self, **fields: Any) -> None:
        print(json.dumps({"time": round(time.time(), 1), **fields}), file=self._output, flush=True)

    def started(self, worker: int, job: str) -> None:
        """A job began."""
        self._jobs[worker] = job
        self._say(event="started", worker=worker, subject=job)

    def ended(self, outcome: Outcome, is_again: bool) -> None:
        """A job ended."""
        self.ended_jobs += not is_again
        self._jobs.pop(outcome.worker, None)
        self._say(event=outcome.status, worker=outcome.worker, subject=outcome.job, again=is_again,
                  message=outcome.message, ended=self.ended_jobs, of=self.total)

    def progress(self, workers: Mapping[int, Mapping[str, Any]]) -> None:
        """A line for each worker, now and then."""
        now = time.monotonic()
        for worker, told in workers.items():
            job = self._jobs.get(worker)
            left = None if job is None else self._pace.seconds_left(job, told, now)
            if job is not None and told.get("steps") and now - self._said.get(worker, 0.0) >= LINE_SECONDS:
                self._said[worker] = now
                self._say(event="progress", worker=worker, subject=job, step=told["step"], steps=told["steps"],
                          loss=told.get("loss"), seconds_left=None if left is None else round(left))

    def close(self) -> None:
        """Nothing more comes."""


class LiveTable:
    """A row for each job that runs, the latest ends below it. rich, because it draws tables right on every terminal."""

    def __init__(self, total: int):
        from rich.live import Live

        self.total, self.counts = total, {"done": 0, "failed": 0, "stopped": 0, "lost": 0}
        self._jobs, self._told, self._pace = dict[int, str](), dict[int, Mapping[str, Any]](), Pace()
        self._latest: list[str] = []
        self._live = Live(self._table(), refresh_per_second=2)
        self._live.start()

    def _table(self) -> Any:
        from rich.table import Table

        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        table = Table(title=f"{counts or 'nothing ended yet'}, of {self.total}", caption="\n".join(self._latest[-4:]))
        for column in ("subject", "worker", "step", "loss", "time left"):
            table.add_column(column)
        now = time.monotonic()
        for worker, job in sorted(self._jobs.items()):
            told = self._told.get(worker, {})
            left, loss = self._pace.seconds_left(job, told, now), told.get("loss")
            step = f"{told['step']} of {told['steps']}" if told.get("steps") else ""
            table.add_row(job, str(worker), step, "" if loss is None else f"{loss:.3g}",
                          "" if left is None else duration(left))
        return table

    def started(self, worker: int, job: str) -> None:
        """A job began."""
        self._jobs[worker] = job
        self._live.update(self._table())

    def ended(self, outcome: Outcome, is_again: bool) -> None:
        """A job ended."""
        self._jobs.pop(outcome.worker, None)
        if not is_again:
            self.counts[outcome.status] += 1
        if outcome.status != "done":
            again = ", tried again" if is_again else ""
            self._latest.append(f"{outcome.job}: {outcome.status}{again}: {outcome.message[:200]}")
        self._live.update(self._table())

    def progress(self, workers: Mapping[int, Mapping[str, Any]]) -> None:
        """About once a second."""
        self._told = dict(workers)
        self._live.update(self._table())

    def close(self) -> None:
        """Leave the table as it is."""
        self._live.stop()


def display(total: int, *, as_json: bool) -> Display:
    """The live table where there is a terminal and rich, JSON lines otherwise."""
    if not as_json and sys.stdout.isatty():
        try:
            return LiveTable(total)
        except ImportError:
            print("For a live table: pip install rich")
    return JsonLines(total)


def duration(seconds: float) -> str:
    """For people: "45 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
