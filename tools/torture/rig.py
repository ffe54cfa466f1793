"""ComfyUI in this process, once; every attempt is a forked child that may die without harm.

Forking costs milliseconds where a new process would import torch and ComfyUI for seconds, so that hundreds of kills
fit into minutes. Needs a system that can fork (not Windows).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..comfyui_server import FOLDERS
from ..install_comfyui import ROOT, comfyui_directory

OUR_ERRORS = ("InputError", "StorageError", "TrainingDiverged", "InterruptProcessingException")
"""Ends that are told to the user in words; everything else out of a node of ours is a raw exception."""
JOB_NAMES = ("lora", "dora", "full weights", "textual inversion")
"""The kinds of runs in `jobs`."""
RUN, STEPS = "tortured", 8
"""Their name, and their steps where a trial says nothing else."""
LONGEST = 120.0
"""Seconds after which an attempt counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """How a forked attempt ended.

    Attributes:
        value: what it returned.
        raised: name of the exception's class, "" where none was raised.
        message, trace: what it said.
        ending: "ended", "killed" (by the parent), "died" (by itself) or "hung".
    """

    value: Any = None
    raised: str = ""
    message: str = ""
    trace: str = ""
    ending: str = "ended"

    @property
    def is_raw(self) -> bool:
        """Whether it raised what no user should see."""
        return bool(self.raised) and self.raised not in OUR_ERRORS

    def needed(self, otherwise: str) -> Any:
        """Its value, without which nothing can be tried.

        Raises:
            RuntimeError: there is none.
        """
        if self.value is None:
            raise RuntimeError(f"{otherwise}: {self.said()}\n{self.trace}")
        return self.value

    def said(self) -> str:
        """One line."""
        return f"{self.raised}: {self.message}"[:300] if self.raised else self.ending


@functools.cache
def start_comfyui(base: Path) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the tiny model, loaded by ComfyUI in this process."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    sys.path[:] = [str(comfyui_directory()), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT)]
    from comfy.cli_args import args

    args.cpu, args.base_directory, args.database_url = True, str(base), "sqlite:///:memory:"
    import torch

    torch.set_num_threads(1)
    _start_autograd()
    with quiet(base / "start.log"):
        from ...tests.nodes.tiny_model import tiny_models

        models = tiny_models()
        _import_everything(base / "warm")
    gc.collect()
    gc.freeze()
    return models


def _start_autograd() -> None:
    """A first backward pass, for which autograd starts its threads: none on a CPU. Once a run's memory was estimated,
    PyTorch with CUDA counts one card where there is none, and after a first pass then no child could train."""
    import torch

    torch.zeros(1, requires_grad=True).sum().backward()


def _import_everything(store: Path) -> None:
    """Runs each job once, on models of its own, so that no child imports anything."""
    import torch

    from ...tests.nodes.tiny_model import tiny_models
    from . import jobs

    use_store(empty(store))
    with torch.inference_mode():
        for name in jobs.JOBS:
            jobs.run_job(name, tiny_models(), steps=1)


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Standard output and error go into a file meanwhile."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, handle in enumerate(kept, 1):
            os.dup2(handle, number)
            os.close(handle)


def forked(work: Callable[[], Any], log: Path, kill_after: float | None = None) -> Outcome:
    """Run `work` in a child, whose value must be JSON; SIGKILL after so many seconds."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_child(work, log, writing)
    os.close(writing)
    answer, in_time = _read(reading, LONGEST if kill_after is None else kill_after)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    os.waitpid(child, 0)
    if not in_time:
        return Outcome(ending="hung" if kill_after is None else "killed")
    return Outcome(**json.loads(answer)) if answer else Outcome(ending="died")


def _be_child(work: Callable[[], Any], log: Path, writing: int) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        import torch

        with torch.inference_mode():
            answer = {"value": work()}
    except BaseException as error:  # noqa: BLE001 - whatever is raised is the finding
        answer = {"raised": type(error).__name__, "message": str(error)[:2000],
                  "trace": "".join(traceback.format_exception(error))[-6000:]}
    with os.fdopen(writing, "w", encoding="utf-8", errors="backslashreplace") as pipe:
        json.dump(answer, pipe)
    os._exit(0)


def _read(handle: int, seconds: float) -> tuple[bytes, bool]:
    """What comes out of a pipe until it is closed, and whether that was in time."""
    end = time.monotonic() + seconds
    parts: list[bytes] = []
    while (left := end - time.monotonic()) > 0:
        if select.select([handle], [], [], left)[0]:
            part = os.read(handle, 65536)
            if not part:
                return b"".join(parts), True
            parts.append(part)
    return b"".join(parts), False


def empty(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def use_store(base: Path) -> None:
    """Let ComfyUI's output, LoRA and embedding folders be in `base`; for a forked child."""
    import folder_paths

    for name in ("output", "temp", "loras", "embeddings"):
        (base / name).mkdir(parents=True, exist_ok=True)
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.set_temp_directory(str(base / "temp"))
    for name in ("loras", "embeddings"):
        folder_paths.folder_names_and_paths[name] = ([str(base / name)], folder_paths.supported_pt_extensions)
    folder_paths.filename_list_cache.clear()


def use_copy(whole: Path, store: Path) -> None:
    """The same in a new copy of another store."""
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(whole, store)
    use_store(store)


def fingerprint(models: tuple[Any, Any, Any]) -> str:
    """A digest of all weights of MODEL, CLIP and VAE as they are without patches, and of what is attached to them."""
    digest = hashlib.sha256()
    model, clip, vae = models
    for patcher in (model, clip.patcher, vae.patcher):
        for name, patches in sorted(patcher.get_key_patches().items()):
            weight = patches[0][0] if isinstance(patches[0], tuple) else patches[0]
            digest.update(name.encode() + weight.detach().cpu().contiguous().view(-1).numpy().tobytes())
        classes = [type(module).__name__ for module in patcher.model.modules()]
        digest.update(repr([classes, sorted(patcher.patches), sorted(patcher.injections)]).encode())
    return digest.hexdigest()


def raised_by_us(trace: str | list[str]) -> bool:
    """Whether the innermost frame of a traceback is a file of this package (not of a library that it called)."""
    lines = [line for line in "".join(trace).splitlines() if line.lstrip().startswith("File ")]
    return bool(lines) and is_our_file(lines[-1])


def is_our_file(line: str) -> bool:
    """Whether a line of a traceback names a file of core or nodes."""
    parts = (str(ROOT), "comfyui-personalize", "comfyui_personalize")
    return any(f"{part}/{folder}/" in line for part in parts for folder in ("core", "nodes"))
