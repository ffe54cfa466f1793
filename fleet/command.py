"""`fleet run plan.yaml`: reads the plan, checks it whole, runs what is not done yet, writes the index."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import on_ray
from .alone import AlonePool, Worker
from .engine import Engine, Events, Outcome, Pool
from .errors import PlanError, UnlikeWorkers, WorkerLost
from .graph import model_files
from .identity import commit_of
from .jobs import Job, keyed, make_jobs
from .page import Index, result_of
from .plan import Plan, read_plan
from .progress import display, duration
from .storage import Storage, is_url, resolve
from .worker import THREADS, ComfyWorker, photos_digest

FAILED, REFUSED, STOPPED = 1, 2, 130
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where the plan runs.

    Attributes:
        folder: of the plan.
        extension: this extension's folder.
        output: where results go, made whole.
        settings: of every worker.
    """

    folder: Path
    extension: Path
    output: Storage
    settings: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all done, 1 some failed, 2 the plan was refused, 130 stopped by the person."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="fleet: %(message)s")
    try:
        return _run(given)
    except PlanError as error:
        return _refuse("The plan was refused; nothing was started.", error.problems)
    except (UnlikeWorkers, WorkerLost, ImportError) as error:
        return _refuse("There are no workers. What is done stays done; the same command goes on.", [str(error)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleet", description="One workflow for many subjects, on every GPU at hand.")
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="run a plan, or go on with it")
    run.add_argument("plan", type=Path, help="a YAML file")
    run.add_argument("--workers", type=int, help="how many; 1 needs no Ray; default: the plan's")
    run.add_argument("--address", help="of a Ray cluster to join, such as auto or HOST:6379; default: this machine")
    run.add_argument("--dry-run", action="store_true", help="list what would run, and an estimate")
    run.add_argument("--json", action="store_true", help="JSON lines instead of a live table")
    return parser


def _refuse(head: str, problems: Sequence[str]) -> int:
    print("\n".join((head, *(f"- {problem}" for problem in problems))), file=sys.stderr)
    return REFUSED


def _run(given: argparse.Namespace) -> int:
    path = given.plan.absolute()
    plan = read_plan(path)
    extension = Path(__file__).absolute().parents[1]
    jobs = make_jobs(plan, path.parent, extension)
    around = surroundings(plan, path.parent, extension, jobs, gpus_of(plan, given.address))
    count = given.workers or workers_of(plan, given.address)
    if given.dry_run:
        return _tell(plan, jobs, around, count)
    pool, identity = make_pool(plan, around, count, given.address)
    try:
        return run_jobs(plan, jobs, around, pool, identity, title=path.stem, as_json=given.json)
    finally:
        pool.close()


def surroundings(plan: Plan, folder: Path, extension: Path, jobs: Sequence[Job], gpus: float) -> Surroundings:
    """Where everything is, for workers that take so many GPUs each. Raises: PlanError."""
    output = resolve(plan.output, folder)
    if plan.work is None and is_url(output):
        raise PlanError([f"work: got nothing, expected a folder that all workers share, since output is "
                         f"{plan.output!r}, where no run can go on"])
    work = Path(resolve(str(plan.work), folder)) if plan.work is not None else Path(output) / "work"
    comfyui, base = find_comfyui(plan, folder, extension, work)
    threads = plan.workers.threads
    settings = {
        "extension": str(extension), "comfyui": str(comfyui), "base": None if base is None else str(base),
        "python": plan.comfyui.python or sys.executable, "arguments": list(plan.comfyui.arguments),
        "work": str(work), "output": output, "gpus": gpus,
        "threads": os.environ.get(THREADS) if threads == "auto" else threads,
        "models": sorted({name for job in jobs for name in model_files(job.graphs[0])})}
    return Surroundings(folder=folder, extension=extension, output=Storage(output), settings=settings)


def find_comfyui(plan: Plan, folder: Path, extension: Path, work: Path) -> tuple[Path, Path | None]:
    """The ComfyUI to start and its base directory (None = itself). Raises: PlanError."""
    given = plan.comfyui
    base = None if given.base_directory is None else Path(resolve(str(given.base_directory), folder))
    if given.directory is not None:
        candidates = [Path(resolve(str(given.directory), folder))]
    else:
        installed = extension.parents[1] if extension.parent.name == "custom_nodes" else None
        places = (os.environ.get("COMFYUI_DIR"), installed, extension / ".comfyui" / "ComfyUI")
        candidates = [Path(place) for place in places if place]
    comfyui = next((place for place in candidates if (place / "main.py").is_file()), None)
    if comfyui is None:
        raise PlanError([f"comfyui.directory: got {given.directory or 'nothing'}, expected a folder with ComfyUI's "
                         f"main.py (looked in {', '.join(map(str, candidates)) or 'no place'})"])
    is_installed = any(path.resolve() == extension.resolve() for path in (comfyui / "custom_nodes").glob("*"))
    if base is None and not is_installed:
        base = work / "comfyui"
    return comfyui, base


def gpus_of(plan: Plan, address: str | None) -> float:
    """GPUs that each worker takes; none on a machine that has none. Of a cluster the plan knows, not this machine."""
    return plan.workers.gpus if address is not None or gpu_count() else 0.0


@functools.cache
def gpu_count() -> int:
    """GPUs of this machine, without starting CUDA here."""
    try:
        import torch
    except ImportError:
        return 0
    return int(torch.cuda.device_count())


def workers_of(plan: Plan, address: str | None) -> int:
    """How many workers, where the command line does not say."""
    if plan.workers.count != "auto":
        return plan.workers.count
    if address is not None:
        raise PlanError(["workers.count: got 'auto', expected a number, since a cluster is joined; or say --workers"])
    return max(1, int(gpu_count() / plan.workers.gpus) if plan.workers.gpus else 1)


def make_pool(plan: Plan, around: Surroundings, count: int, address: str | None) -> tuple[Any, Mapping[str, Any]]:
    """The workers, and what they are. Raises: UnlikeWorkers, WorkerLost, ImportError."""
    make: Callable[[int], Worker] = functools.partial(_make_worker, dict(around.settings))
    if count == 1 and address is None:
        alone = AlonePool(lambda: make(0))
        return alone, alone.describe()
    package = Path(__file__).absolute().parent
    ray = on_ray.connect(address, on_ray.shipped(package), gpus=gpu_count() if address is None else None)
    pool = on_ray.RayPool(ray, make, count, gpus=around.settings["gpus"],
                          memory_gb=plan.workers.memory_gb, cpus=min(1.0, (os.cpu_count() or 1) / count))
    return pool, pool.describe()


def _make_worker(settings: Mapping[str, Any], number: int) -> Worker:
    return ComfyWorker(settings, number)


def run_jobs(plan: Plan, jobs: Sequence[Job], around: Surroundings, pool: Pool, identity: Mapping[str, Any], *,
             title: str, as_json: bool = False) -> int:
    """Run what has no result under its key yet; the exit status."""
    digests = {place: photos_digest(place) for place in dict.fromkeys(job.photos for job in jobs)}
    jobs = [keyed(job, digests[job.photos], dict(identity)) for job in jobs]
    records = done_before(around.output, jobs)
    open_jobs = [job for job in jobs if job.name not in records]
    shown, index = display(len(open_jobs), as_json=as_json), Index(around.output, title, jobs)

    def ended(outcome: Outcome, is_again: bool) -> None:
        if not is_again:
            records[outcome.job] = {"status": outcome.status, "message": outcome.message, **outcome.result}
            try:
                index.keep_up(records)
            except OSError as error:  # it is written again after the next job, and at the end
                log.warning("the index could not be written: %s", error)
        shown.ended(outcome, is_again)

    engine = Engine(pool, Events(started=shown.started, ended=ended, progress=shown.progress),
                    most_lost=plan.retries.lost, pause=plan.retries.seconds)
    with stopping_gently(engine):
        engine.run([job.to_dict() for job in open_jobs])
    shown.close()
    index.write(records)
    return _summary(jobs, records, around)


@contextmanager
def stopping_gently(engine: Engine) -> Iterator[None]:
    """Within the context the first Ctrl-C stops the engine, the second one this process."""

    def stop(number: int, _: object) -> None:
        print("Stopping: what runs is interrupted and kept. Once more ends at once.", file=sys.stderr)
        signal.signal(number, before[number])
        engine.stop()

    before: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def done_before(output: Storage, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Results that stand under the very key of their job."""
    found = {job.name: (job.key, result_of(output, job.name)) for job in jobs}
    return {name: record for name, (key, record) in found.items() if record is not None and record.get("key") == key}


def _summary(jobs: Sequence[Job], records: Mapping[str, Mapping[str, Any]], around: Surroundings) -> int:
    statuses = [str(records.get(job.name, {}).get("status", "waiting")) for job in jobs]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    print(f"{counts}. Index: {around.output.at('index.html')}", file=sys.stderr)
    if {"failed", "lost"} & set(statuses):
        return FAILED
    return STOPPED if {"stopped", "waiting"} & set(statuses) else 0


def _tell(plan: Plan, jobs: Sequence[Job], around: Surroundings, count: int) -> int:
    """What would run, with an estimate from the results that are there."""
    earlier = [record for job in jobs if (record := result_of(around.output, job.name)) is not None]
    seconds = [float(record["seconds"]) for record in earlier if record.get("seconds")]
    for job in jobs:
        settings = ", ".join(f"{key} = {value}" for key, value in job.settings.items())
        print(f"{job.name}: {job.photos}; {job.steps} steps, {len(job.prompts)} prompts"
              + (f"; {settings}" if settings else ""))
    told = "unknown before the first result"
    if seconds:
        told = f"about {duration(sum(seconds) / len(seconds) * len(jobs) / count)} (by {len(seconds)} earlier results)"
    print(f"{len(jobs)} jobs on {count} workers, {sum(job.steps for job in jobs)} training steps in all; "
          f"time: {told}. Extension {commit_of(around.extension) or 'without git'}, ComfyUI in "
          f"{around.settings['comfyui']}, results to {plan.output}.")
    return 0
