"""Two processes on one output folder: the same run, two runs of one name, one that sweeps while the other writes."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
def ready(work: Path) -> Iterator[Callable[[str], Result]]:  # noqa: C901 - functions over what only now is imported
    """One meeting."""
    models = start_comfyui(work.parent / "comfyui")
    from ...core.store.files import read_tensors
    from ...core.store.runs import Run, open_run
    from . import jobs
    from .stores import torn_files

    def alone(store: Path, rate: float) -> dict[str, str]:
        use_store(store)
        return {"report": _train(rate)}

    def _train(rate: float) -> str:
        return jobs.train(models, 4, learning_rate=rate, options=jobs.options())[6]

    @functools.cache
    def wanted(rate: float) -> list[str]:
        store = empty(work / f"alone {rate}")
        outcome = forked(functools.partial(alone, store, rate), work / "log.txt")
        if outcome.value is None:
            raise RuntimeError(f"the undisturbed run failed: {outcome.said()}\n{outcome.trace}")
        return _adapters(store)

    def together(first: Callable[[], object], second: Callable[[], object], result: Result) -> None:
        """Both at once; each in a child of its own."""

        def other() -> list[str]:
            outcome = forked(second, work / "log.txt")
            return [outcome.raised, outcome.said()]

        def both() -> list[list[str]]:
            import threading

            said: list[list[str]] = []
            thread = threading.Thread(target=lambda: said.append(other()))
            thread.start()
            outcome = forked(first, work / "log.txt")
            thread.join()
            return [[outcome.raised, outcome.said()], *said]

        for raised, what in forked(both, work / "log.txt").value or [["all", "the pair did not end"]]:
            result.counts["said in words" if raised in OUR_ERRORS else "ended"] += 1
            result.lost += [what] if raised and raised not in OUR_ERRORS or not raised and what != "ended" else []

    def meet(store: Path, way: str, result: Result) -> list[float]:
        """Let them meet; the learning rates of the runs that must be there afterwards."""
        rates = [1e-3, 1e-3] if way == "the same run" else [1e-3, 2e-3]
        first, second = (functools.partial(alone, store, rate) for rate in rates)
        together(first, second, result)
        return rates

    def sweeping(store: Path, result: Result) -> None:
        """A writer that saves again and again, and one that opens the same run again and again."""
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

        together(write, opening, result)
        result.lost += torn_files(store)
        result.lost += [] if (run.folder / "state.safetensors").exists() else ["nothing was saved"]
        result.lost += [f"{path.name} was left" for path in root.rglob("*.tmp")]

    def trial(identity: str) -> Result:
        way, result, store = identity.rpartition(" ")[0], Result(), empty(work / "shared")
        if way == WAYS[2]:
            sweeping(store, result)
            return result
        rates = meet(store, way, result)
        for rate in set(rates):  # once more, alone: what one of them could not end
            outcome = forked(functools.partial(alone, store, rate), work / "log.txt")
            result.lost += [outcome.said()] if outcome.raised else []
        found = _adapters(store)
        result.lost += [f"the run at rate {rate} is not as it is alone" for rate in set(rates)
                        if not set(wanted(rate)) <= set(found)]
        return result

    def _adapters(store: Path) -> list[str]:
        """Digests of all results, without the run's name."""
        import hashlib

        digests = []
        for path in sorted(store.rglob("adapter-*.safetensors")):
            tensors, metadata = read_tensors(path)
            text = repr([(name, tensor.numpy().tobytes()) for name, tensor in sorted(tensors.items())])
            digests.append(hashlib.sha256(text.encode()).hexdigest())
        return digests

    work.mkdir(parents=True, exist_ok=True)
    yield trial
