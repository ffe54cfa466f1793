"""Workers as Ray actors, on this machine or a cluster. Ray places them, notices their death and starts them anew.

Listens on 127.0.0.1 alone, unless a cluster's address is given.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .alone import Worker, outcome_of
from .engine import Outcome
from .errors import UnlikeWorkers, WorkerLost
from .identity import check_alike

GIB = 1 << 30
START_SECONDS = 600.0
PROGRESS_SECONDS = 0.2
MOST_STARTS = 5
"""In a row that a worker may fail; then it is left out."""
TASKS_AT_A_TIME = 3
"""Of an actor: a job, a question for its progress, an interruption."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0",
         "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's own switch for machines that are no cluster: everything binds 127.0.0.1. Read when Ray is imported."""

log = logging.getLogger(__name__)


def import_ray() -> Any:
    """Ray. Raises: ImportError, which says how to install it."""
    try:
        import ray
    except ImportError as error:
        raise ImportError("workers: more than one needs Ray, which is not installed. Install it with "
                          "`pip install ray`, or run with --workers 1.") from error
    return ray


def connect(address: str | None, runtime: Mapping[str, Any], gpus: float | None = None,
            cpus: int | None = None) -> Any:
    """Join the cluster at an address, or start one on this machine that listens on loopback alone.

    Args:
        runtime: Ray's environment of the workers; `shipped` gives one for the fleet's own.
        gpus, cpus: what the machine is said to have; None = what Ray finds.
    """
    wanted = QUIET | (ALONE if address is None else {})
    os.environ.update({name: value for name, value in wanted.items() if name not in os.environ})
    ray = import_ray()
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address is not None:
        ray.init(address=address, runtime_env=dict(runtime), log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(include_dashboard=False, num_gpus=gpus, num_cpus=cpus, runtime_env=dict(runtime), log_to_driver=False,
                 logging_level=logging.ERROR)
    return ray


def shipped(package: Path) -> dict[str, Any]:
    """An environment that takes a copy of this package to every worker, under the name that they import it by."""
    target = Path(tempfile.mkdtemp(prefix="personalize-fleet-")) / __package__.replace(".", "/")
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
    return {"py_modules": [str(target)]}


class Actor:
    """A worker inside a Ray actor. Outcomes travel as plain fields: no exception's class need be known outside."""

    def __init__(self, make: Callable[[int], Worker], number: int):
        self.number, self.worker = number, make(number)

    def describe(self) -> Mapping[str, Any]:
        """What the worker is."""
        return self.worker.describe()

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """A job's outcome, as fields."""
        outcome = outcome_of(self.number, str(job["name"]), lambda: self.worker.run(job))
        return {"status": outcome.status, "message": outcome.message, "result": dict(outcome.result)}

    def progress(self) -> Mapping[str, Any]:
        """Of the job that runs."""
        return self.worker.progress()

    def interrupt(self) -> None:
        """Ask the job to stop."""
        self.worker.interrupt()

    def close(self) -> None:
        """End the worker."""
        self.worker.close()


class RayPool:
    """A pool of actors.

    Args:
        ray: the module, connected.
        make: number -> worker; called inside the actor.
        count: of workers.
        gpus, memory_gb, cpus: that each takes.
    """

    def __init__(self, ray: Any, make: Callable[[int], Worker], count: int, *, gpus: float = 0.0,
                 memory_gb: float = 0.0, cpus: float = 1.0):
        self._ray, self._make = ray, make
        self._options = {"num_gpus": gpus, "num_cpus": cpus, "memory": int(memory_gb * GIB) or None,
                         "max_concurrency": TASKS_AT_A_TIME, "max_restarts": 0}
        self._kind = ray.remote(Actor)
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}
        self._running: dict[Any, tuple[int, str]] = {}
        self._idle: list[int] = []
        self._failed_starts: Counter[int] = Counter()
        self._reference: Mapping[str, Any] | None = None
        for number in range(count):
            self._start(number)

    def _start(self, number: int) -> None:
        """Start an actor; it is idle once it has said what it is."""
        self._actors[number] = self._kind.options(**self._options).remote(self._make, number)
        self._starting[self._actors[number].describe.remote()] = number

    def describe(self) -> Mapping[str, Any]:
        """What the workers are, all that can be placed now.

        Raises:
            UnlikeWorkers: they differ.
            WorkerLost: none came up.
        """
        ready, _ = self._ray.wait(list(self._starting), num_returns=len(self._starting), timeout=START_SECONDS)
        if not ready:
            raise WorkerLost(f"no worker started within {START_SECONDS:.0f} s: does the cluster have what each takes "
                             f"({self._options['num_gpus']:g} GPUs)?")
        for reference in ready:
            self._welcome(reference, is_strict=True)
        if self._reference is None:
            raise WorkerLost("no worker started; see the workers' logs")
        return self._reference

    def _welcome(self, reference: Any, *, is_strict: bool) -> None:
        """Take a started worker in, if it is like the others."""
        number = self._starting.pop(reference)
        try:
            described = self._ray.get(reference)
            if self._reference is None:
                self._reference = described
            check_alike(self._reference, described, f"worker {number}")
        except UnlikeWorkers as error:
            if is_strict:
                raise
            log.error("%s", error)
            self._ray.kill(self._actors.pop(number))
            return
        except self._ray.exceptions.RayError as error:
            if is_strict and not self._starting and self._reference is None:
                raise WorkerLost(f"worker {number} did not start: {_last_line(error)}") from None
            log.warning("worker %d did not start: %s", number, _last_line(error))
            self._failed_starts[number] += 1
            if self._failed_starts[number] < MOST_STARTS:
                self._start(number)
            return
        self._failed_starts[number] = 0
        self._idle.append(number)

    def idle(self) -> Sequence[int]:
        """Workers that are ready and have nothing to do."""
        return list(self._idle)

    def give(self, worker: int, job: Mapping[str, Any]) -> None:
        """Start a job on an idle worker."""
        self._idle.remove(worker)
        self._running[self._actors[worker].run.remote(job)] = (worker, str(job["name"]))

    def wait(self, seconds: float) -> Sequence[Outcome]:
        """What ended; workers that came up meanwhile are idle afterwards. Raises: WorkerLost, where none is left."""
        references = [*self._running, *self._starting]
        if not references and not self._idle:
            raise WorkerLost(f"every worker failed to start {MOST_STARTS} times; see the workers' logs")
        if not references:
            time.sleep(seconds)  # until a job may be tried again
            return []
        ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        if ready:  # whatever else is there already
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        for reference in [found for found in ready if found in self._starting]:
            self._welcome(reference, is_strict=False)
        return [self._outcome(reference) for reference in ready if reference in self._running]

    def _outcome(self, reference: Any) -> Outcome:
        worker, job = self._running.pop(reference)
        try:
            fields = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            fields = {"status": "lost", "message": f"worker {worker} is gone: {_last_line(error)}"}
        if fields["status"] == "lost":
            self._kill(worker)
            self._start(worker)
        else:
            self._idle.append(worker)
        return Outcome(worker=worker, job=job, **fields)

    def _kill(self, worker: int) -> None:
        with contextlib.suppress(Exception):  # it may be gone already
            self._ray.kill(self._actors[worker])

    def progress(self) -> Mapping[int, Mapping[str, Any]]:
        """Of the workers that answer at once; a dead one is noticed by `wait`."""
        asked = {self._actors[worker].progress.remote(): worker for worker, _ in self._running.values()}
        ready = self._ray.wait(list(asked), num_returns=len(asked), timeout=PROGRESS_SECONDS)[0] if asked else []
        found = {}
        for reference in ready:
            with contextlib.suppress(self._ray.exceptions.RayError):
                found[asked[reference]] = self._ray.get(reference)
        return found

    def interrupt(self) -> None:
        """Ask every running job to stop gently."""
        for worker, _ in self._running.values():
            self._actors[worker].interrupt.remote()

    def close(self) -> None:
        """End all workers, and Ray where it was started here."""
        closing = [self._actors[worker].close.remote() for worker in self._idle]
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.wait(closing, num_returns=len(closing), timeout=30.0)
        self._ray.shutdown()


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
