"""The fleet's proof: what scheduling costs, how it scales, and that kills lose and repeat nothing.

    python benchmarks/fleet.py overhead       # 1,000 trivial jobs: milliseconds a job
    python benchmarks/fleet.py throughput     # N sleeping workers against the ideal
    python benchmarks/fleet.py kills          # twelve subjects, 2 and 4 workers, a worker or a node killed, 20 times
    python benchmarks/fleet.py storage        # the same subjects, where every fifth call of the storage fails
    python benchmarks/fleet.py parts          # what one worker spends on starting, loading, photos and results
    python benchmarks/fleet.py report

Nodes are those of Ray's own test cluster on one machine: each has its raylet, and dies with SIGKILL. Subjects are
learned by the pocket model in real ComfyUI servers. Every trial is one line in .fleet/trials.jsonl; a kill that stands
there is not made again. `report` writes benchmarks/results/fleet.md.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # before Ray's import: loopback alone
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fsspec
import psutil
import yaml
from failing_storage import FAILURES, SHARE, FailingFileSystem

from comfyui_personalize.fleet import on_ray
from comfyui_personalize.fleet.alone import AlonePool, Worker
from comfyui_personalize.fleet.command import Surroundings, surroundings
from comfyui_personalize.fleet.engine import Engine, Events, Outcome
from comfyui_personalize.fleet.jobs import Job, keyed, make_jobs
from comfyui_personalize.fleet.page import Index, result_of
from comfyui_personalize.fleet.plan import read_plan
from comfyui_personalize.fleet.storage import Storage
from comfyui_personalize.fleet.worker import ComfyWorker, photos_digest

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".fleet"
TRIALS = STATE / "trials.jsonl"
RESULTS = ROOT / "benchmarks" / "results" / "fleet.md"
PHOTOS = ROOT / "workflows" / "photos"
SUBJECTS, KILLS, JOBS = 12, 20, 1000
SILENT = Events(started=lambda worker, job: None, ended=lambda outcome, again: None, progress=lambda told: None)
SMALL = {"Personalize Trainer": {"steps": 12, "batch": 1}, "Training Options": {"save_every": 4, "rank": 4},
         "Class images: what any dog looks like": {"count": 2, "steps": 2, "shown": 2},
         "KSampler: Your subject": {"steps": 2}}


class Sleeper:
    """A worker whose jobs take their time and nothing else."""

    def __init__(self, number: int):
        self.number = number

    def describe(self) -> Mapping[str, Any]:
        """All alike."""
        return {"code": "sleeper"}

    def run(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sleep."""
        time.sleep(job["seconds"])
        return {"value": job["name"]}

    def progress(self) -> Mapping[str, Any]:
        """Nothing to tell."""
        return {}

    def interrupt(self) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        """Nothing to free."""


def kept() -> list[dict[str, Any]]:
    """The trials so far."""
    return [json.loads(line) for line in TRIALS.read_text().splitlines()] if TRIALS.exists() else []


def keep(**trial: Any) -> None:
    """One more."""
    STATE.mkdir(exist_ok=True)
    with TRIALS.open("a") as file:
        file.write(json.dumps(trial) + "\n")
    print(json.dumps(trial))


@contextmanager
def cluster(nodes: int, cpus: int = 2) -> Iterator[Any]:
    """Ray's test cluster: a head without workers and some nodes, each with a slot for one worker."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.workers = [made.add_node(num_cpus=cpus, num_gpus=1) for _ in range(nodes)]
    on_ray_module = on_ray.connect(made.address, on_ray.shipped(ROOT / "fleet"))
    made.ray = on_ray_module
    try:
        yield made
    finally:
        on_ray_module.shutdown()
        made.shutdown()


def overhead() -> None:
    """1,000 jobs that do nothing, on two workers."""
    with cluster(2) as made:
        pool = on_ray.RayPool(made.ray, Sleeper, 2, gpus=1.0)
        pool.describe()
        for _ in range(3):
            start, busy = time.perf_counter(), time.process_time()
            Engine(pool, SILENT).run([{"name": str(number), "seconds": 0.0} for number in range(JOBS)])
            keep(kind="overhead", jobs=JOBS, milliseconds=(time.perf_counter() - start) / JOBS * 1000,
                 cpu_milliseconds=(time.process_time() - busy) / JOBS * 1000)


def throughput() -> None:
    """Sleeping jobs, so that cores are no limit: the ideal is their sum over the workers."""
    for workers in (2, 4, 8):
        with cluster(workers, cpus=1) as made:
            pool = on_ray.RayPool(made.ray, Sleeper, workers, gpus=1.0)
            pool.describe()
            while len(pool.idle()) < workers:
                pool.wait(1.0)
            jobs = [{"name": str(number), "seconds": 0.5} for number in range(20 * workers)]
            start = time.perf_counter()
            Engine(pool, SILENT).run(jobs)
            keep(kind="throughput", workers=workers, share=0.5 * len(jobs) / workers / (time.perf_counter() - start))


def kill_subjects(folder: Path, **places: str) -> tuple[list[Job], Surroundings]:
    """Twelve subjects of one or two photos, and where they run; `places` are of the plan, instead of its own."""
    for number in range(SUBJECTS):
        home = folder / "rows" / f"dog{number:02d}"
        home.mkdir(parents=True, exist_ok=True)
        for photo in {number % 4 + 1, number // 4 + 1}:
            shutil.copy(PHOTOS / f"personalize_dog_{photo}.png", home)
    path = folder / "plan.yaml"
    fields = {"workflow": "01", "subjects": "rows", "noun": "dog", "output": "out", "overrides": SMALL,
              "workers": {"threads": 1, "gpus": 0}}
    path.write_text(yaml.safe_dump(fields | places, sort_keys=False))
    plan = read_plan(path)
    jobs = make_jobs(plan, folder, ROOT)
    around = surroundings(plan, folder, ROOT, jobs, gpus=0.0)
    return [keyed(job, photos_digest(job.photos), {}) for job in jobs], around


def make_worker(settings: Mapping[str, Any], number: int) -> Worker:
    """A worker with a ComfyUI server."""
    return ComfyWorker(settings, number)


def alone_bits() -> dict[str, str]:
    """Digests of the adapters of a single machine, made once."""
    folder = STATE / "alone"
    jobs, around = kill_subjects(folder)
    open_jobs = [job for job in jobs if result_of(around.output, job.name) is None]
    if open_jobs:
        pool = AlonePool(lambda: make_worker(around.settings, 0))
        Engine(pool, SILENT).run([job.to_dict() for job in open_jobs])
        pool.close()
    return {job.name: digest(around.output, job.name) for job in jobs}


def digest(output: Storage, name: str) -> str:
    """Of a subject's adapter."""
    return hashlib.sha256(output.read(f"{name}/{name}.safetensors")).hexdigest()


def kills(trials: int = KILLS) -> None:
    """Every trial kills a worker's process or a whole node at a seeded moment."""
    done = {trial["seed"] for trial in kept() if trial["kind"] == "kill"}
    expected = alone_bits()
    for seed in range(trials):
        if seed not in done:
            keep(kind="kill", seed=seed, **one_kill(seed, 2 if seed % 2 == 0 else 4, expected))


def one_kill(seed: int, workers: int, expected: Mapping[str, str]) -> dict[str, Any]:
    """A fleet on fresh folders, with one kill; what became of it."""
    chance, folder = random.Random(seed), STATE / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    jobs, around = kill_subjects(folder)
    victim, after = ("node" if seed % 4 >= 2 else "worker"), chance.randrange(1, SUBJECTS - workers)
    ends: Counter[str] = Counter()
    records: dict[str, Any] = {}
    lost = 0
    with cluster(workers) as made:
        pool = on_ray.RayPool(made.ray, functools.partial(make_worker, around.settings), workers, gpus=1.0)
        pool.describe()
        killer = Killer(made, victim, after, chance)

        def ended(outcome: Outcome, is_again: bool) -> None:
            nonlocal lost
            lost += outcome.status == "lost"
            if not is_again:
                ends[outcome.job] += 1
                records[outcome.job] = {"status": outcome.status, "message": outcome.message, **outcome.result}

        events = Events(started=SILENT.started, ended=ended, progress=lambda told: killer(sum(ends.values())))
        start = time.perf_counter()
        Engine(pool, events, pause=0.5).run([job.to_dict() for job in jobs])
        seconds = time.perf_counter() - start
        pool.close()
    Index(around.output, "killed", jobs).write(records)
    page = around.output.read("index.html").decode()
    return {"servers_left": servers_left(around.settings["work"]),
            "workers": workers, "victim": victim, "after": after, "killed": killer.is_done, "lost_tries": lost,
            "seconds": round(seconds, 1), "done": sum(record["status"] == "done" for record in records.values()),
            "ended_twice": sum(count > 1 for count in ends.values()),
            "unlike_bits": sum(digest(around.output, name) != bits for name, bits in expected.items()),
            "in_index": sum(f">{job.name}<" in page for job in jobs)}


def servers_left(work: str, seconds: float = 20.0) -> int:
    """ComfyUI servers of a fleet that is over which are still there after their time of grace."""
    servers = [process for process in psutil.process_iter() if f"{work}/output" in _command_of(process)]
    return len(psutil.wait_procs(servers, timeout=seconds)[1])


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


class Killer:
    """Kills once, a little after so many jobs have ended."""

    def __init__(self, made: Any, victim: str, after: int, chance: random.Random):
        self.made, self.victim, self.after, self.chance, self.is_done = made, victim, after, chance, False

    def __call__(self, ended: int) -> None:
        if self.is_done or ended < self.after:
            return
        time.sleep(self.chance.uniform(0.0, 1.5))
        if self.victim == "node":
            node = self.chance.choice(self.made.workers)
            self.made.remove_node(node, allow_graceful=False)
            self.made.add_node(num_cpus=2, num_gpus=1)
        else:
            actors = [process for process in psutil.process_iter(["name"]) if "Actor" in (process.info["name"] or "")]
            self.chance.choice(sorted(actors, key=lambda process: process.pid)).send_signal(signal.SIGKILL)
        self.is_done = True


def failing_worker(settings: Mapping[str, Any], number: int) -> Worker:
    """A worker that knows the failing drive; by its path: Ray takes this file's classes by value, with their locks."""
    fsspec.register_implementation("failing", "failing_storage.FailingFileSystem", clobber=True)
    return ComfyWorker(settings, number)


def storage() -> None:
    """Twelve subjects on two workers with photos and results on a drive that fails."""
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    expected, folder = alone_bits(), STATE / "failing"
    shutil.rmtree(folder, ignore_errors=True)
    jobs, around = kill_subjects(folder, output=f"failing://{folder / 'out'}", work=str(folder / "work"))
    jobs = [replace(job, photos=f"failing://{job.photos}") for job in jobs]
    FAILURES.unlink(missing_ok=True)
    with cluster(2) as made:
        pool = on_ray.RayPool(made.ray, functools.partial(failing_worker, around.settings), 2, gpus=1.0)
        pool.describe()
        outcomes = Engine(pool, SILENT, pause=0.5).run([job.to_dict() for job in jobs])
        pool.close()
    records = {outcome.job: {"status": outcome.status, "message": outcome.message, **outcome.result}
               for outcome in outcomes}
    Index(around.output, "failing", jobs).write(records)
    page = around.output.read("index.html").decode()
    keep(kind="storage", share=SHARE, failures=Counter(FAILURES.read_text().split()),
         done=sum(outcome.status == "done" for outcome in outcomes),
         unlike_bits=sum(digest(around.output, name) != bits for name, bits in expected.items()),
         in_index=sum(f">{job.name}<" in page for job in jobs))


def parts() -> None:
    """What a worker spends, job by job, on this machine."""
    folder = STATE / "parts"
    shutil.rmtree(folder, ignore_errors=True)
    jobs, around = kill_subjects(folder)
    start = time.perf_counter()
    worker = ComfyWorker(around.settings, 0)
    keep(kind="parts", what="server until it answers", seconds=time.perf_counter() - start)
    for job, what in zip(jobs[:4], ("first job, model loaded", *["next job, model warm"] * 3), strict=True):
        start = time.perf_counter()
        worker.run(job.to_dict())
        keep(kind="parts", what=what, seconds=time.perf_counter() - start)
    size = sum(file.stat().st_size for file in (folder / "out" / jobs[0].name).rglob("*") if file.is_file())
    keep(kind="parts", what="bytes of a result", seconds=size)
    start = time.perf_counter()
    worker.stage(jobs[0].to_dict())
    keep(kind="parts", what="photos copied", seconds=time.perf_counter() - start)
    worker.close()


def report() -> None:
    """benchmarks/results/fleet.md."""
    trials = kept()
    head = "Written by `python benchmarks/fleet.py report`; trials by its other words."
    lines = ["# The fleet, measured", "", head, ""]
    for writer in (_overhead_lines, _throughput_lines, _kill_lines, _storage_lines, _part_lines):
        lines += [*writer(trials), ""]
    RESULTS.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(lines))


def _of(trials: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["kind"] == kind]


def _overhead_lines(trials: list[dict[str, Any]]) -> list[str]:
    found = _of(trials, "overhead")
    if not found:
        return ["Scheduling: not measured."]
    wall, cpu = (statistics.median(trial[key] for trial in found) for key in ("milliseconds", "cpu_milliseconds"))
    return [f"**Scheduling**: {wall:.1f} ms a job, {cpu:.1f} ms of it the driver's CPU (limit 50), {JOBS} trivial jobs "
            f"on two workers, median of {len(found)}."]


def _throughput_lines(trials: list[dict[str, Any]]) -> list[str]:
    shares: dict[int, list[float]] = {}
    for trial in _of(trials, "throughput"):
        shares.setdefault(trial["workers"], []).append(trial["share"])
    said = ", ".join(f"{statistics.median(found):.3f} with {workers} workers"
                     for workers, found in sorted(shares.items()))
    return ["**Throughput** against the ideal of N workers, jobs of 0.5 s that need no core (limit 0.95): "
            f"{said or 'not measured'}."]


def _kill_lines(trials: list[dict[str, Any]]) -> list[str]:
    found = _of(trials, "kill")
    if not found:
        return ["Kills: not measured."]
    killed = [trial for trial in found if trial["killed"]]
    good = [trial for trial in killed if trial["done"] == trial["in_index"] == SUBJECTS and not trial["ended_twice"]
            and not trial["unlike_bits"] and trial["servers_left"] == 0]
    columns = ("seed", "workers", "victim", "after", "lost_tries", "done", "ended_twice", "unlike_bits",
               "servers_left", "seconds")
    rows = [f"| {' | '.join(str(trial[column]) for column in columns)} |" for trial in found]
    return [f"**Kills**: {len(good)} of {len(killed)} trials with a kill (SIGKILL) ended with all {SUBJECTS} subjects "
            "done once, adapters bit for bit those of a single worker, a complete index, and no server left.", "",
            "| seed | workers | killed | after jobs | tries lost | done | ended twice | other bits | servers left "
            "| seconds |", "|---|---|---|---|---|---|---|---|---|---|", *rows]


def _storage_lines(trials: list[dict[str, Any]]) -> list[str]:
    found = _of(trials, "storage")
    if not found:
        return ["Failing storage: not measured."]
    last = found[-1]
    said = ", ".join(f"{count} of {what}" for what, count in sorted(last["failures"].items()))
    return [f"**Storage that fails** in {last['share']:.0%} of its calls, photos and results alike, two workers: "
            f"{last['done']} of {SUBJECTS} subjects done, {last['unlike_bits']} with other bits, {last['in_index']} in "
            f"the index, after {sum(last['failures'].values())} failures ({said})."]


def _part_lines(trials: list[dict[str, Any]]) -> list[str]:
    values: dict[str, list[float]] = {}
    for trial in _of(trials, "parts"):
        values.setdefault(trial["what"], []).append(trial["seconds"])
    rows = [f"| {what} | {statistics.median(found):,.3f} |" for what, found in values.items()]
    return ["**One worker's time** (pocket model, a CPU; the models of a studio take longer to load):", "",
            "| what | seconds (bytes) |", "|---|---|", *rows] if rows else ["Parts: not measured."]


COMMANDS: dict[str, Callable[[], None]] = {"overhead": overhead, "throughput": throughput, "kills": kills,
                                           "storage": storage, "parts": parts, "report": report}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=COMMANDS, nargs="+")
    for what in parser.parse_args().what:
        COMMANDS[what]()


if __name__ == "__main__":
    main()
