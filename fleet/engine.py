"""Jobs on workers: who runs what, what is tried again, what is set aside. Knows neither ComfyUI nor Ray.

A job whose worker was lost is as good as new and waits a little. A job that failed is tried once more; failing with the
same words twice it is set aside, and the rest goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

LONGEST_PAUSE = 300.0
WAIT_SECONDS = 1.0
"""How long the loop waits for something to end before it looks at progress."""
MOST_FAILURES = 3

Status = Literal["done", "failed", "lost", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job on a worker ended.

    Attributes:
        worker: its number in the pool.
        job: its name.
        status: done; failed (its own fault); lost (the worker's); stopped (the person's).
        message: what went wrong.
        result: of a job that is done.
    """

    worker: int
    job: str
    status: Status
    message: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


class Pool(Protocol):
    """Workers. A lost one is started anew by the pool itself."""

    def idle(self) -> Sequence[int]:
        """Workers that are ready and have nothing to do."""
        ...

    def give(self, worker: int, job: Mapping[str, Any]) -> None:
        """Start a job on an idle worker."""
        ...

    def wait(self, seconds: float) -> Sequence[Outcome]:
        """What ended, at the latest after `seconds`, possibly nothing."""
        ...

    def progress(self) -> Mapping[int, Mapping[str, Any]]:
        """Of the workers that run a job, by number."""
        ...

    def interrupt(self) -> None:
        """Ask every running job to stop gently."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass
class _State:
    """A job on its way."""

    job: Mapping[str, Any]
    not_before: float = 0.0
    lost: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Events:
    """What the caller hears of.

    Attributes:
        started: worker, job.
        ended: an outcome, and whether the job is tried again.
        progress: by worker, about once a second.
    """

    started: Callable[[int, str], None]
    ended: Callable[[Outcome, bool], None]
    progress: Callable[[Mapping[int, Mapping[str, Any]]], None]


class Engine:
    """Runs jobs.

    Args:
        pool: the workers.
        events: what the caller hears of.
        most_lost: how often a job's worker may be lost.
        pause: seconds before the first new try; doubled each time.
        clock: seconds, for tests.
    """

    def __init__(self, pool: Pool, events: Events, *, most_lost: int = 5, pause: float = 5.0,
                 clock: Callable[[], float] = time.monotonic):
        self.pool, self.events, self.most_lost, self.pause, self.clock = pool, events, most_lost, pause, clock
        self._is_stopping = False
        self._asked = False

    def stop(self) -> None:
        """Hand out nothing more and ask the running jobs to stop; safe in a signal handler."""
        self._is_stopping = True

    def run(self, jobs: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Run all jobs; the last outcome of each, in the order in which they ended. Each ends exactly once."""
        waiting = [_State(job) for job in jobs]
        running: dict[int, _State] = {}
        ended: list[Outcome] = []
        while running or (waiting and not self._is_stopping):
            self._give(waiting, running)
            self._interrupt_once()
            for outcome in self.pool.wait(self._seconds(waiting, running)):
                state = running.pop(outcome.worker)
                is_again = self._is_tried_again(state, outcome)
                self.events.ended(outcome, is_again)
                if is_again:
                    waiting.append(state)
                else:
                    ended.append(outcome)
            self.events.progress(self.pool.progress())
        return ended

    def _interrupt_once(self) -> None:
        if self._is_stopping and not self._asked:
            self._asked = True
            self.pool.interrupt()

    def _give(self, waiting: list[_State], running: dict[int, _State]) -> None:
        if self._is_stopping:
            return
        now = self.clock()
        for worker in self.pool.idle():
            state = next((state for state in waiting if state.not_before <= now), None)
            if state is None:
                return
            waiting.remove(state)
            running[worker] = state
            self.pool.give(worker, state.job)
            self.events.started(worker, str(state.job["name"]))

    def _seconds(self, waiting: list[_State], running: dict[int, _State]) -> float:
        """Until something can happen."""
        if running or not waiting:
            return WAIT_SECONDS
        return min(WAIT_SECONDS, max(0.01, min(state.not_before for state in waiting) - self.clock()))

    def _is_tried_again(self, state: _State, outcome: Outcome) -> bool:
        if self._is_stopping or outcome.status in ("done", "stopped"):
            return False
        if outcome.status == "lost":
            state.lost += 1
            tries, more = state.lost, state.lost <= self.most_lost
        else:
            state.failures.append(outcome.message)
            tries, more = len(state.failures), self._may_differ(state.failures)
        state.not_before = self.clock() + min(LONGEST_PAUSE, self.pause * 2 ** (tries - 1))
        return more

    @staticmethod
    def _may_differ(failures: Sequence[str]) -> bool:
        """Whether another try may end otherwise: no message came twice."""
        return len(failures) < MOST_FAILURES and len(set(failures)) == len(failures)
