"""Hundreds of jobs on one server: does its memory grow?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .record import Result
from .servers import Graph, WatchedServer, with_inputs, workflow

TITLE = "Soak"
CLAIM = "The memory of a server that trains and samples all day does not grow: under 1 % from job 50 to job 300."
JOBS = {"full": 300, "quick": 24, "small": 0}
WORKFLOWS = (1, 2, 3, 6)
WARM = {300: 50, 24: 8}
"""Job from which on growth is measured; before it caches, pools and the allocator fill."""
MOST = 0.01
AROUND = 5
"""Jobs around a moment whose median counts."""


def trials(size: str) -> list[str]:
    """All jobs are one trial, for memory is of one process."""
    return [f"{JOBS[size]} jobs"] if JOBS[size] else []


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """All jobs on one server, one after the other."""

    def trial(identity: str) -> Result:
        import psutil

        jobs = int(identity.split()[0])
        server = WatchedServer(work / "base")
        with server:
            process, sizes, start = psutil.Process(server.pid), [], time.monotonic()
            for number in range(jobs):
                server.client.run(job(number), timeout=300)
                sizes.append(process.memory_info().rss)
            seconds = time.monotonic() - start
        growth, per_job = grown(sizes, WARM[jobs])
        lost = [] if growth < MOST or jobs < 300 else [f"grew by {growth:.2%} from job {WARM[jobs]} to job {jobs}"]
        figures = {"growth": growth, "bytes per job": per_job, "rss": sizes, "seconds": seconds, "warm": WARM[jobs]}
        return Result(attempts=jobs, lost=lost, figures=figures)

    yield trial


def job(number: int) -> Graph:
    """The n-th job: another seed and another name, so that nothing is found again."""
    graph = with_inputs(workflow(WORKFLOWS[number % len(WORKFLOWS)]), "PersonalizeTrainer", seed=number,
                        run_name=f"soak {number}")
    graph = with_inputs(graph, "PersonalizeSave", name=f"soak/{number}")
    return with_inputs(graph, "KSampler", seed=number)


def grown(sizes: Sequence[int], warm: int) -> tuple[float, float]:
    """Growth from the warm job to the last as a share (medians of five jobs), and bytes per job by least squares."""
    late = sizes[warm:]
    first, last = (sorted(part)[len(part) // 2] for part in (late[:AROUND], late[-AROUND:]))
    middle, mean = (len(late) - 1) / 2, sum(late) / len(late)
    slope = sum((at - middle) * (size - mean) for at, size in enumerate(late)) / sum(
        (at - middle) ** 2 for at in range(len(late)))
    return last / first - 1, slope
