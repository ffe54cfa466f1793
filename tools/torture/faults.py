"""What goes wrong in the middle of a run: memory that is not enough, a folder that is gone, a library's own error."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .record import Result
from .rig import empty, fingerprint, forked, start_comfyui, use_store

TITLE = "Injected faults"
CLAIM = ("Whatever fails in the middle of a run, MODEL, CLIP and VAE stay as they were, and the same graph ends with "
         "the same bits.")
FAULTS = ("out of memory in the network", "out of memory in the text encoder", "out of memory in the VAE",
          "out of memory in a preview", "out of memory in the optimizer", "an error of a library in the network",
          "NaN in the network", "the run's folder is gone", "the output folder is gone", "out of memory while saving")
RUNS = {"full": 6, "quick": 1, "small": 1}


def trials(size: str) -> list[str]:
    """A fault each, in the full campaign at six random calls."""
    faults = FAULTS[::4] if size == "small" else FAULTS
    return [f"{name} {number}" for number in range(RUNS[size]) for name in faults]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """One fault, and the same run again in the same process."""
    models = start_comfyui(work.parent / "comfyui")
    from .jobs import run_job
    from .stores import results_of, torn_files

    def attempt(store: Path, fault: str | None, call: int) -> dict[str, Any]:
        use_store(store)
        before, found = fingerprint(models), {"raised": "", "message": "", "same": True}
        if fault is not None:
            with injected(fault, call, store):
                try:
                    run_job("lora", models)
                except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
                    found = {"raised": type(error).__name__, "message": str(error)[:200]}
            found["same"] = fingerprint(models) == before
            shutil.rmtree(store / "loras", ignore_errors=True)
            use_store(store)
        run_job("lora", models)
        return found | {"same_later": fingerprint(models) == before}

    @functools.cache
    def undisturbed() -> dict[str, str]:
        store = empty(work / "undisturbed")
        outcome = forked(functools.partial(attempt, store, None, 0), work / "log.txt")
        outcome.needed("the undisturbed run failed")
        return results_of(store)

    def trial(identity: str) -> Result:
        fault, wanted = identity.rpartition(" ")[0], undisturbed()
        call, store, result = random.Random(identity).randint(1, 4), empty(work / "run"), Result()
        outcome = forked(functools.partial(attempt, store, fault, call), work / "log.txt")
        if outcome.value is None:
            result.lost.append(f"call {call}: {outcome.said()}")
            return result
        value = outcome.value
        result.counts[value["raised"] or "ended all the same"] += 1
        result.lost += [] if value["same"] else [f"call {call}: the models changed"]
        result.lost += [] if value["same_later"] else [f"call {call}: the models changed in the run after it"]
        result.lost += torn_files(store)
        found = results_of(store)
        result.lost += [f"call {call}: {path} differs" for path, digest in wanted.items() if found.get(path) != digest]
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial


@contextlib.contextmanager
def injected(fault: str, call: int, store: Path) -> Iterator[None]:
    """Something fails at its n-th call."""
    import comfy.sd
    import torch

    from ...core.store import files
    from ...core.training import trainer
    from ...nodes.bridge.model.denoiser import ComfyDenoiser
    from ...nodes.bridge.training import loop as training_loop

    memory, library = torch.OutOfMemoryError("CUDA out of memory (injected)"), RuntimeError("a library's error")
    runs = store / "output" / "personalize"
    what: dict[str, tuple[Any, str, Any]] = {
        "out of memory in the network": (ComfyDenoiser, "__call__", memory),
        "an error of a library in the network": (ComfyDenoiser, "__call__", library),
        "NaN in the network": (ComfyDenoiser, "__call__", None),
        "out of memory in the text encoder": (comfy.sd.CLIP, "encode_from_tokens", memory),
        "out of memory in the VAE": (comfy.sd.VAE, "encode", memory),
        "out of memory in a preview": (training_loop, "sample_preview", memory),
        "out of memory in the optimizer": (torch.optim.AdamW, "step", memory),
        "out of memory while saving": (files, "save", memory),
        "the run's folder is gone": (trainer.Trainer, "state", lambda: shutil.rmtree(next(runs.glob("[!.]*")))),
        "the output folder is gone": (trainer.Trainer, "state", lambda: shutil.rmtree(store / "output")),
    }
    owner, name, failure = what[fault]
    original, calls = getattr(owner, name), [0]

    @functools.wraps(original)
    def failing(*arguments: Any, **settings: Any) -> Any:
        calls[0] += 1
        if calls[0] != min(call, 2 if name in ("encode", "sample_preview", "encode_from_tokens") else call):
            return original(*arguments, **settings)
        if isinstance(failure, Exception):
            raise failure
        value = original(*arguments, **settings)
        if failure is None:
            return value * float("nan")
        failure()
        return value

    setattr(owner, name, failing)
    try:
        yield
    finally:
        setattr(owner, name, original)
