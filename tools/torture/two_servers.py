"""Two processes on one output folder: the same run, two runs of one name, one that sweeps while the other writes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .record import Result
from .rig import OUR_ERRORS, empty, forked, start_comfyui, use_store

TITLE = "Two processes on one output folder"
CLAIM = ("Two processes on one output folder take nothing from each other: each run ends as it would alone, or one of "
         "them says in words that the other is at work.")
RUNS = {"full": 40, "quick": 4, "small": 1}
WAYS = ("the same run", "two runs of one name", "one opens while the other writes")
MEETING = 2.0
"""Seconds for which one process saves the run's state and another opens the run, which sweeps its folder."""


def trials(size: str) -> list[str]:
    """A meeting each."""
    return [f"{way} {number}" for number in range(RUNS[size]) for way in WAYS]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """One meeting."""
    models, log = start_comfyui(work.parent / "comfyui"), work / "log.txt"

    @functools.cache
    def wanted(rate: float) -> list[str]:
        store = empty(work / f"alone {rate}")
        forked(functools.partial(run_alone, models, store, rate), log).needed("the undisturbed run failed")
        return adapters(store)

    def trial(identity: str) -> Result:
        way, result, store = identity.rpartition(" ")[0], Result(), empty(work / "shared")
        if way == WAYS[2]:
            sweep(store, log, result)
            return result
        rates = [1e-3, 1e-3] if way == WAYS[0] else [1e-3, 2e-3]
        runs = {rate: functools.partial(run_alone, models, store, rate) for rate in rates}
        meet(runs[rates[0]], runs[rates[1]], log, result)
        for run in runs.values():  # once more, alone: what one of them could not end
            outcome = forked(run, log)
            result.lost += [outcome.said()] if outcome.raised else []
        found = adapters(store)
        result.lost += [f"the run at rate {rate} is not as it is alone" for rate in runs
                        if not set(wanted(rate)) <= set(found)]
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial


def run_alone(models: tuple[Any, Any, Any], store: Path, rate: float) -> dict[str, str]:
    """A run at a learning rate; what it reports."""
    from . import jobs

    use_store(store)
    return {"report": jobs.train(models, 4, learning_rate=rate, options=jobs.options())[6]}


def meet(first: Callable[[], object], second: Callable[[], object], log: Path, result: Result) -> None:
    """Both at once; each in a child of its own."""

    def other() -> list[str]:
        outcome = forked(second, log)
        return [outcome.raised, outcome.said()]

    def both() -> list[list[str]]:
        said: list[list[str]] = []
        thread = threading.Thread(target=lambda: said.append(other()))
        thread.start()
        outcome = forked(first, log)
        thread.join()
        return [[outcome.raised, outcome.said()], *said]

    for raised, what in forked(both, log).value or [["all", "the pair did not end"]]:
        result.counts["said in words" if raised in OUR_ERRORS else "ended"] += 1
        result.lost += [what] if raised and raised not in OUR_ERRORS or not raised and what != "ended" else []


def sweep(store: Path, log: Path, result: Result) -> None:
    """A writer that saves again and again, and one that opens the same run again and again."""
    from ...core.store.runs import Run, open_run
    from .stores import torn_files

    root = store / "output" / "personalize"
    run = open_run(root, "shared", "key")

    def write() -> bool:
        import torch

        end, number = time.monotonic() + MEETING, 0
        while time.monotonic() < end:
            number += 1
            Run(run.folder, run.key).save_state(number, {"a": torch.rand(200_000)}, {})
        return True

    def opening() -> bool:
        end = time.monotonic() + MEETING
        while time.monotonic() < end:
            open_run(root, "shared", "key")
        return True

    meet(write, opening, log, result)
    result.lost += torn_files(store)
    result.lost += [] if (run.folder / "state.safetensors").exists() else ["nothing was saved"]
    result.lost += [f"{path.name} was left" for path in root.rglob("*.tmp")]


def adapters(store: Path) -> list[str]:
    """Digests of all results, without the run's name."""
    from ...core.store.files import read_tensors

    digests = []
    for path in sorted(store.rglob("adapter-*.safetensors")):
        tensors, _ = read_tensors(path)
        text = repr([(name, tensor.numpy().tobytes()) for name, tensor in sorted(tensors.items())])
        digests.append(hashlib.sha256(text.encode()).hexdigest())
    return digests
