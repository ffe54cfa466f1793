"""Death before, within and after every single file operation of a run, then the same run again."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .record import Result
from .rig import empty, forked, start_comfyui, use_store

TITLE = "Death at every file operation"
CLAIM = ("A process that dies at any file operation leaves whole files; the same run ends with the same bits under the "
         "same name, and nothing stays behind.")
SLICES = 40
"""Every so many-th operation belongs to one trial."""
WANTED = {"full": range(SLICES), "quick": (3, 22), "small": (5,)}
STEPS = 4
RUNS = ("lora", "textual inversion")


def trials(size: str) -> list[str]:
    """A slice of the operations of one kind of run each."""
    runs = RUNS[:1] if size == "small" else RUNS
    return [f"{name} {number}" for number in WANTED[size] for name in runs]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """Every death of a slice."""
    models, log = start_comfyui(work.parent / "comfyui"), work / "log.txt"
    from .stores import compare_at_the_end, contents, torn_files

    @functools.cache
    def undisturbed(name: str) -> tuple[dict[str, str], list[str]]:
        store = empty(work / f"undisturbed {name}")
        outcome = forked(functools.partial(attempt, models, store, name, -1), log)
        if not outcome.value:
            raise RuntimeError(f"the undisturbed run of {name} failed: {outcome.said()}\n{outcome.trace}")
        return contents(store), outcome.value

    def die(name: str, death: int) -> list[str]:
        """Die at one moment of a run and run again; what is lost."""
        store = empty(work / "run")
        outcome = forked(functools.partial(attempt, models, store, name, death), log)
        lost = [] if outcome.ending == "died" else [f"did not die: {outcome.said()}"]
        lost += torn_files(store) + _vanished(store)
        again = functools.partial(forked, functools.partial(attempt, models, store, name, None), log)
        outcome = again()
        lost += [outcome.said()] if outcome.raised or outcome.ending != "ended" else []
        return lost + compare_at_the_end(store, undisturbed(name)[0], again)

    def trial(identity: str) -> Result:
        name, _, number = identity.rpartition(" ")
        moments, result = undisturbed(name)[1], Result(attempts=0)
        for death in range(1 + int(number), len(moments) + 1, SLICES):
            result.attempts += 1
            result.lost += [f"death {moments[death - 1]}: {sentence}" for sentence in die(name, death)]
            result.counts[f"deaths: {name}"] += 1
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial


def attempt(models: tuple[Any, Any, Any], store: Path, name: str, death: int | None) -> list[str]:
    """Run; the moments that it went through, unless it dies at one of them."""
    from .injected import watch_files
    from .jobs import run_job
    from .stores import KEPT

    moments: list[str] = []
    use_store(store)
    if death is not None:
        notes = os.open(store / "replaced.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write, leave = os.write, os._exit

        def moment(what: str) -> None:
            moments.append(what)
            write(notes, f"{what}\n".encode())
            if len(moments) == death:
                leave(1)

        watch_files([store / folder for folder in KEPT], moment)
    run_job(name, models, STEPS)
    return moments


def _vanished(store: Path) -> list[str]:
    """What had been put in place before the death and is not there after it."""
    notes = (store / "replaced.txt").read_text(encoding="utf-8").splitlines()
    placed = {line.removeprefix("after replace of ") for line in notes if line.startswith("after replace of ")}
    there = {"/".join(path.parts[-2:]) for path in store.rglob("*")}
    return [f"{name} is gone" for name in sorted(placed - there) if ".tmp" not in name]
