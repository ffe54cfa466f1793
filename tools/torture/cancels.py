"""Cancel at random moments, as ComfyUI's own button does it; then the models are looked at, and the run goes on."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .record import Result
from .rig import JOB_NAMES, Outcome, empty, fingerprint, forked, start_comfyui, use_store

TITLE = "Cancels"
CLAIM = "A cancel at any moment leaves MODEL, CLIP and VAE as they were, and the run goes on to the same bits."
SMALL = ("lora", "textual inversion")
RUNS = {"full": 25, "quick": 3, "small": 1}


def trials(size: str) -> list[str]:
    """A cancelled run each."""
    return [f"{name} {number}" for number in range(RUNS[size]) for name in (SMALL if size == "small" else JOB_NAMES)]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """One cancel, and the same run again in the same process."""
    models = start_comfyui(work.parent / "comfyui")
    import comfy.model_management

    from .jobs import run_job
    from .stores import results_of, torn_files

    def attempt(store: Path, name: str, cancel_after: float | None) -> list[str]:
        use_store(store)
        before, said = fingerprint(models), []
        if cancel_after is not None:
            press = functools.partial(comfy.model_management.interrupt_current_processing, True)
            timer = threading.Timer(cancel_after, press)
            timer.start()
            try:
                run_job(name, models)
            except comfy.model_management.InterruptProcessingException:
                said.append("cancelled")
            timer.cancel()  # where the run was over first, the run after it must not be cancelled
            timer.join()
            comfy.model_management.interrupt_current_processing(False)
            said += [] if fingerprint(models) == before else ["models changed"]
        run_job(name, models)
        return said + ([] if fingerprint(models) == before else ["models changed by the run after it"])

    @functools.cache
    def undisturbed(name: str) -> tuple[dict[str, str], float]:
        store, start = empty(work / f"undisturbed {name}"), time.monotonic()
        outcome = forked(functools.partial(attempt, store, name, None), work / "log.txt")
        outcome.needed(f"the undisturbed run of {name} failed")
        return results_of(store), time.monotonic() - start

    def trial(identity: str) -> Result:
        name = identity.rpartition(" ")[0]
        wanted, seconds = undisturbed(name)
        store, result = empty(work / "run"), Result()
        moment = random.Random(identity).uniform(0.02, 0.8 * seconds)
        outcome: Outcome = forked(functools.partial(attempt, store, name, moment), work / "log.txt")
        said = outcome.value or []
        result.counts["too late"] += "cancelled" not in said
        result.lost += [sentence for sentence in said if sentence != "cancelled"]
        result.lost += [outcome.said()] if outcome.value is None else []
        result.lost += torn_files(store)
        result.lost += [f"{path} differs" for path, digest in wanted.items() if results_of(store).get(path) != digest]
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial
