"""One worker in this process: the headless batch command, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from .engine import Outcome
from .errors import JobFailed, JobStopped, WorkerLost


class Worker(Protocol):
    """What a pool needs of a worker; `progress` and `interrupt` are called while `run` runs."""

    def describe(self) -> Mapping[str, Any]:
        """What must be equal among all workers."""
        ...

    def run(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises: JobFailed, JobStopped, WorkerLost."""
        ...

    def progress(self) -> Mapping[str, Any]:
        """Of the job that runs."""
        ...

    def interrupt(self) -> None:
        """Stop it gently."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


def outcome_of(worker: int, job: str, run: Callable[[], Mapping[str, Any]]) -> Outcome:
    """Run a job; how it ended."""
    try:
        return Outcome(worker=worker, job=job, status="done", result=run())
    except JobStopped as error:
        return Outcome(worker=worker, job=job, status="stopped", message=str(error))
    except JobFailed as error:
        return Outcome(worker=worker, job=job, status="failed", message=str(error))
    except WorkerLost as error:
        return Outcome(worker=worker, job=job, status="lost", message=str(error))
    except Exception as error:  # noqa: BLE001 - a full drive, a photo that vanished: this job's, never the fleet's end
        return Outcome(worker=worker, job=job, status="failed", message=f"{type(error).__name__}: {error}")


class AlonePool:
    """A pool of one.

    Args:
        make: makes the worker; called again after a loss.
    """

    def __init__(self, make: Callable[[], Worker]):
        self._make = make
        self.worker = make()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="fleet-job")
        self._running: Future[Outcome] | None = None

    def describe(self) -> Mapping[str, Any]:
        """What the worker is."""
        return self.worker.describe()

    def idle(self) -> Sequence[int]:
        """The one worker, while it has nothing to do."""
        return [] if self._running else [0]

    def give(self, worker: int, job: Mapping[str, Any]) -> None:
        """Start a job in the background."""
        self._running = self._threads.submit(outcome_of, worker, str(job["name"]), lambda: self.worker.run(job))

    def wait(self, seconds: float) -> Sequence[Outcome]:
        """The job's outcome, if it ended. A lost worker is made anew at once."""
        if self._running is None:
            time.sleep(seconds)  # until a job may be tried again
            return []
        if not wait([self._running], seconds).done:
            return []
        outcome, self._running = self._running.result(), None
        if outcome.status == "lost":
            self.worker.close()
            self.worker = self._make()
        return [outcome]

    def progress(self) -> Mapping[int, Mapping[str, Any]]:
        """Of the job that runs."""
        return {0: self.worker.progress()} if self._running else {}

    def interrupt(self) -> None:
        """Ask the job to stop."""
        self.worker.interrupt()

    def close(self) -> None:
        """End the worker."""
        self._threads.shutdown(wait=True)
        self.worker.close()
