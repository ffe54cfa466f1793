"""Disks of many sizes that fill up while a run trains: a small tmpfs where this user may mount one, otherwise writing
fails after so many bytes."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .record import Result
from .rig import STEPS, Outcome, empty, fingerprint, forked, start_comfyui, use_store

TITLE = "Full disks"
CLAIM = ("A disk that fills up ends in one sentence, with the adapter wherever it fits; with more room the same graph "
         "ends with the same bits.")
KIB = 1024
SIZES = {"full": range(16, 16 + 60 * 16, 16), "quick": range(48, 960, 144), "small": (64, 640)}
"""KiB in all; a run needs about 900: a state of 372, its successor beside it, two adapters of 135."""
PAGE = 4 * KIB


def trials(size: str) -> list[str]:
    """A disk each."""
    return [f"{kib} KiB" for kib in SIZES[size]]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """One run on a disk that is too small, and again with room."""
    models, log = start_comfyui(work.parent / "comfyui"), work / "log.txt"
    from .stores import results_of

    @functools.cache
    def undisturbed() -> tuple[dict[str, str], int]:
        store = empty(work / "undisturbed")
        outcome = forked(functools.partial(attempt, models, store, None), log)
        if outcome.value is None or outcome.value["raised"]:
            raise RuntimeError(f"the undisturbed run failed: {outcome.said()}\n{outcome.trace}")
        return results_of(store), next(store.rglob("adapter-*.safetensors")).stat().st_size

    def trial(identity: str) -> Result:
        size = int(identity.split()[0]) * KIB
        wanted, adapter_size = undisturbed()
        result, store = Result(), empty(work / "run")
        with disk(store, size) as is_real:
            outcome = forked(functools.partial(attempt, models, store, None if is_real else size), log)
            result.counts["tmpfs" if is_real else "injected ENOSPC"] += 1
            judge(outcome, store, adapter_size, is_real, result)
            if any(store.rglob(f"adapter-{STEPS:06d}.safetensors")):  # the state, it was said, has not fitted beside it
                wanted = {path: digest for path, digest in wanted.items() if not path.endswith("state.safetensors")}
            if is_real:
                subprocess.run(["mount", "-o", f"remount,size={size + 64 * KIB * KIB}", str(store)], check=True)
            forked(functools.partial(attempt, models, store, None), log)
            found = results_of(store)
            result.lost += [f"with room, {path} differs" for path in wanted if found.get(path) != wanted[path]]
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial


def attempt(models: tuple[Any, Any, Any], store: Path, size: int | None) -> dict[str, Any]:
    """A run, where a size is given on a disk of that size: what was raised, and whether the models are the same."""
    from .injected import disk_of, watch_files
    from .jobs import run_job
    from .stores import KEPT

    use_store(store)
    before, found = fingerprint(models), {"raised": "", "message": ""}
    if size is not None:
        watch_files([store / folder for folder in KEPT], lambda what: None, disk_of(size))
    try:
        run_job("lora", models)
    except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
        found = {"raised": type(error).__name__, "message": str(error)[:300]}
    return found | {"same": fingerprint(models) == before}


def judge(outcome: Outcome, store: Path, adapter_size: int, is_real: bool, result: Result) -> None:
    """What an attempt on a disk that is too small may not do."""
    from .stores import torn_files

    value = outcome.value or {"raised": "", "same": True}
    result.counts[value["raised"] or outcome.ending] += 1
    result.lost += [outcome.said()] if outcome.value is None else []
    result.lost += [] if value["same"] else ["the models changed"]
    result.lost += [f"raw {value['message']}"] if value["raised"] not in ("", "StorageError") else []
    result.lost += torn_files(store) + [f"{path.name} was left" for path in store.rglob("*.tmp")]
    free = shutil.disk_usage(store).free if is_real else 0
    if value["raised"] and not list(store.rglob("adapter-*.safetensors")) and free > adapter_size + PAGE:
        result.lost.append(f"no adapter of {adapter_size} bytes, where {free} are free")


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of this size at the folder, where it can be mounted; whether it could."""
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        is_real = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_real = False
    try:
        yield is_real
    finally:
        if is_real:
            subprocess.run(["umount", str(folder)], check=True)
