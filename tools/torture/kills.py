"""SIGKILL at random moments, several times in one run, until it ends; then every file is compared with those of a run
that nobody disturbed."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .record import Result
from .rig import JOB_NAMES, empty, forked, start_comfyui, use_store

TITLE = "Kills"
CLAIM = "A run that is killed at any moment goes on to the same bits; nothing that was saved is lost."
SMALL = ("lora", "textual inversion")
RUNS = {"full": 18, "quick": 2, "small": 1}
"""Runs of each kind."""
KILLS = 5
"""At most so many in one run."""


def trials(size: str) -> list[str]:
    """A run each."""
    return [f"{name} {number}" for number in range(RUNS[size]) for name in (SMALL if size == "small" else JOB_NAMES)]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """One run, killed until it ends."""
    models = start_comfyui(work.parent / "comfyui")
    from .jobs import run_job
    from .stores import Watch, compare_at_the_end, contents

    @functools.cache
    def undisturbed(name: str) -> tuple[dict[str, str], float]:
        """The files of a run that is not killed, and the seconds it took."""
        store = empty(work / f"undisturbed {name}")
        start = time.monotonic()
        outcome = forked(functools.partial(attempt, store, name), work / "log.txt")
        outcome.needed(f"the undisturbed run of {name} failed")
        return contents(store), time.monotonic() - start

    def attempt(store: Path, name: str) -> str:
        use_store(store)
        return run_job(name, models)

    def trial(identity: str) -> Result:
        name = identity.rpartition(" ")[0]
        wanted, seconds = undisturbed(name)
        chance, store = random.Random(identity), empty(work / "run")
        run, watch, result = functools.partial(attempt, store, name), Watch(store), Result(attempts=0)
        for _ in range(KILLS):
            outcome = forked(run, work / "log.txt", kill_after=chance.uniform(0.0, 0.6 * seconds))
            if outcome.ending != "killed":
                break
            result.attempts += 1
            result.counts[f"kills: {name}"] += 1
            result.lost += watch.look()
        else:
            outcome = forked(run, work / "log.txt")
        result.lost += [outcome.said()] if outcome.raised or outcome.ending != "ended" else []
        result.lost += watch.look() + compare_at_the_end(store, wanted, lambda: forked(run, work / "log.txt"))
        result.counts["runs compared bit for bit"] += 1
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial
