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
from .rig import STEPS, empty, fingerprint, forked, start_comfyui, use_store

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
    models = start_comfyui(work.parent / "comfyui")
    from .injected import disk_of, watch_files
    from .jobs import run_job
    from .stores import KEPT, results_of, torn_files

    def attempt(store: Path, size: int | None) -> dict[str, Any]:
        use_store(store)
        before, found = fingerprint(models), {"raised": "", "message": ""}
        if size is not None:
            watch_files([store / folder for folder in KEPT], lambda what: None, disk_of(size))
        try:
            run_job("lora", models)
        except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
            found = {"raised": type(error).__name__, "message": str(error)[:300]}
        return found | {"same": fingerprint(models) == before}

    @functools.cache
    def undisturbed() -> tuple[dict[str, str], int]:
        store = empty(work / "undisturbed")
        outcome = forked(functools.partial(attempt, store, None), work / "log.txt")
        if outcome.value is None or outcome.value["raised"]:
            raise RuntimeError(f"the undisturbed run failed: {outcome.said()}\n{outcome.trace}")
        return results_of(store), next(store.rglob("adapter-*.safetensors")).stat().st_size

    def trial(identity: str) -> Result:
        size = int(identity.split()[0]) * KIB
        wanted, adapter_size = undisturbed()
        result, store = Result(), empty(work / "run")
        with disk(store, size) as is_real:
            outcome = forked(functools.partial(attempt, store, None if is_real else size), work / "log.txt")
            result.counts["tmpfs" if is_real else "injected ENOSPC"] += 1
            value = outcome.value or {"raised": "", "same": True}
            ended = value["raised"] or outcome.ending
            result.counts[ended] += 1
            result.lost += [outcome.said()] if outcome.value is None else []
            result.lost += [] if value["same"] else ["the models changed"]
            result.lost += [f"raw {value['message']}"] if value["raised"] not in ("", "StorageError") else []
            result.lost += torn_files(store) + [f"{path.name} was left" for path in store.rglob("*.tmp")]
            free = shutil.disk_usage(store).free if is_real else 0
            if value["raised"] and not list(store.rglob("adapter-*.safetensors")) and free > adapter_size + PAGE:
                result.lost.append(f"no adapter of {adapter_size} bytes, where {free} are free")
            had_result = any(store.rglob(f"adapter-{STEPS:06d}.safetensors"))
            if is_real:
                subprocess.run(["mount", "-o", f"remount,size={size + 64 * KIB * KIB}", str(store)], check=True)
            outcome = forked(functools.partial(attempt, store, None), work / "log.txt")
            found = results_of(store)
            if had_result:  # it was said that the state has not fitted beside it
                wanted = {path: digest for path, digest in wanted.items() if not path.endswith("state.safetensors")}
            result.lost += [f"with room, {path} differs" for path in wanted if found.get(path) != wanted[path]]
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial


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
