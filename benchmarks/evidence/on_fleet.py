"""The bench's cells on the fleet: in several processes or on several machines, with the bits of one process.

A cell is made by the same function as alone, in a ComfyUI of its worker's own, and lies where it would lie alone. So
cells of both kinds may stand beside each other, and a cut-off run goes on with any number of workers.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...fleet import on_ray
from ...fleet.alone import AlonePool, Worker
from ...fleet.command import stopping_gently
from ...fleet.engine import Engine, Events, Outcome
from ...fleet.errors import JobStopped
from ...fleet.identity import code_digest, comfyui_version
from ...fleet.worker import THREADS
from ...tools.install_comfyui import ROOT, comfyui_directory
from .cell_files import Key, Made, cell_name, cell_path, read_cell
from .comfy_process import Loaded, load_pocket, start_comfyui

log = logging.getLogger("evidence")
Make = Callable[[Loaded], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `make_all` reads."""
    parser.add_argument("--workers", type=int, default=1, help="processes; more than one needs Ray (pip install ray)")
    parser.add_argument("--address", help="of a Ray cluster to join, where all machines see this folder")


class CellWorker:
    """A process with ComfyUI and the pocket model.

    Args:
        base: ComfyUI's base directory.
    """

    def __init__(self, base: Path):
        start_comfyui(base)
        self.loaded = load_pocket()

    def describe(self) -> Mapping[str, Any]:
        """What must be equal among all workers."""
        import torch

        return {"extension": code_digest(ROOT), "comfyui": comfyui_version(comfyui_directory()),
                "torch": torch.__version__, "threads": torch.get_num_threads()}

    def run(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make what the job says. Raises: JobStopped."""
        from comfy.model_management import InterruptProcessingException

        make: Make = job["make"]
        try:
            make(self.loaded)
        except InterruptProcessingException:
            raise JobStopped("stopped") from None
        return {}

    def progress(self) -> Mapping[str, Any]:
        """Nothing: a cell is a minute's work, and the log tells when it ends."""
        return {}

    def interrupt(self) -> None:
        """Stop between two steps."""
        from comfy.model_management import interrupt_current_processing

        interrupt_current_processing()

    def close(self) -> None:
        """Nothing to free."""


def make_all(cells: Mapping[str, Make], given: argparse.Namespace, base: Path) -> None:
    """Make every cell; the rest goes on where one fails.

    Args:
        cells: what makes each, by its name; picklable.
        given: `workers` and `address` of `add_arguments`.
        base: ComfyUI's base directory.

    Raises:
        SystemExit: some failed, or it was stopped; the same command goes on.
    """
    if not cells:
        return
    pool = _pool(given.workers, given.address, partial(_worker, base))
    events = Events(started=lambda worker, job: log.info("%s: worker %d", job, worker), ended=_tell,
                    progress=lambda told: None)
    engine = Engine(pool, events)
    try:
        with stopping_gently(engine):
            outcomes = engine.run([{"name": name, "make": make} for name, make in cells.items()])
    finally:
        pool.close()
    open_cells = len(cells) - sum(outcome.status == "done" for outcome in outcomes)
    if open_cells:
        raise SystemExit(f"{open_cells} of {len(cells)} cells are open; the same command goes on.")


def _pool(workers: int, address: str | None, make: Callable[[int], Worker]) -> Any:
    """One process needs no Ray; more get this checkout by its path, and this process's thread count."""
    if workers == 1 and address is None:
        return AlonePool(lambda: make(0))
    variables = {"PYTHONPATH": str(Path(__file__).absolute().parents[3]), THREADS: os.environ.get(THREADS, "1")}
    ray = on_ray.connect(address, {"env_vars": variables})
    pool = on_ray.RayPool(ray, make, workers, cpus=min(1.0, (os.cpu_count() or 1) / workers))
    pool.describe()
    return pool


def _worker(base: Path, number: int) -> Worker:
    return CellWorker(base)


def _tell(outcome: Outcome, is_again: bool) -> None:
    if outcome.status != "done":
        log.warning("%s: %s: %s%s", outcome.job, outcome.status, outcome.message, "; once more" if is_again else "")


def missing(keys: Sequence[Key], folder: Path, made: Made) -> dict[str, Key]:
    """Keys of cells that are not on disk as they are made today, by name."""
    return {cell_name(*key): key for key in keys if read_cell(cell_path(folder, *key), made(key[0])) is None}
