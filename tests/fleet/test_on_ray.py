"""Ray places workers, notices their death and starts them anew; nothing listens beyond this machine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
from fleet_rig import SILENT, Doubler

from comfyui_personalize.fleet import on_ray
from comfyui_personalize.fleet.engine import Engine, Events
from comfyui_personalize.fleet.errors import UnlikeWorkers
from comfyui_personalize.tools.install_comfyui import ROOT

FLEET = ROOT / "fleet"


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """Ray on this machine, as `fleet run` starts it."""
    path = os.pathsep.join([str(ROOT / ".comfyui" / "package"), str(Path(__file__).parent)])
    with patch.dict(os.environ, PYTHONPATH=path):  # gone again, with the switches that Ray is given, for other files
        ray = on_ray.connect(None, on_ray.shipped(FLEET), gpus=0, cpus=4)
        yield ray
        ray.shutdown()


def run(pool, jobs, **events):
    return Engine(pool, Events(**(vars(SILENT) | events)), pause=0.05).run(jobs)


def close(pool):
    for actor in pool._actors.values():
        pool._ray.kill(actor)


def listening():
    """Every listening socket of this process and all that it started."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return [(process.name(), connection.laddr.ip) for process in processes if process.is_running()
            for connection in process.net_connections("inet") if connection.status == psutil.CONN_LISTEN]


def test_nothing_listens_beyond_this_machine(ray):
    pool = on_ray.RayPool(ray, Doubler, 2, cpus=0.5)
    pool.describe()
    sockets = listening()
    assert len(sockets) >= 4  # the raylet's, the head's and the workers'
    assert {address.removeprefix("::ffff:") for _, address in sockets} <= {"127.0.0.1", "::1"}, sockets
    close(pool)


def test_jobs_are_shared_among_workers_and_each_runs_once(ray, tmp_path):
    pool = on_ray.RayPool(ray, Doubler, 2, cpus=0.5)
    pool.describe()
    outcomes = run(pool, [{"name": f"job{n}", "value": n, "seconds": 0.02, "folder": str(tmp_path)} for n in range(12)])
    assert sorted(outcome.result["value"] for outcome in outcomes) == [2 * n for n in range(12)]
    assert len({outcome.result["pid"] for outcome in outcomes}) == 2
    assert len(list(tmp_path.glob("*.done"))) == 12
    close(pool)


def test_workers_killed_at_seeded_moments_lose_no_job_and_finish_none_twice(ray, tmp_path):
    moments, killed = random.Random(7), []

    def kill_now_and_then(told):
        victims = [actor for actor in psutil.Process().children(recursive=True) if "Actor" in actor.name()]
        if victims and len(killed) < 3 and moments.random() < 0.7:
            victim = moments.choice(victims)
            killed.append(victim.pid)
            victim.send_signal(signal.SIGKILL)

    pool = on_ray.RayPool(ray, Doubler, 2, cpus=0.5)
    pool.describe()
    outcomes = run(pool, [{"name": f"job{n}", "value": n, "seconds": 0.3, "folder": str(tmp_path)} for n in range(12)],
                   progress=kill_now_and_then)
    assert len(killed) == 3
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert sorted(outcome.job for outcome in outcomes) == sorted(f"job{n}" for n in range(12))
    names = [path.name.split(".")[0] for path in tmp_path.glob("*.done")]
    assert sorted(names) == sorted(f"job{n}" for n in range(12))
    close(pool)


def test_a_failure_comes_back_in_its_words_and_the_rest_is_done(ray):
    pool = on_ray.RayPool(ray, Doubler, 1, cpus=0.5)
    pool.describe()
    outcomes = {outcome.job: outcome for outcome in run(pool, [
        {"name": "bad", "value": 1, "fails": "photos: got none"}, {"name": "good", "value": 2}])}
    assert outcomes["bad"].message == "photos: got none" and outcomes["bad"].status == "failed"
    assert outcomes["good"].result["value"] == 4
    close(pool)


class Unlike(Doubler):
    """Workers of different code."""

    def describe(self):
        return {"code": f"number {self.number}", "models": {"a.safetensors": "12"}}


def test_unlike_workers_are_refused_with_the_difference(ray):
    pool = on_ray.RayPool(ray, Unlike, 2, cpus=0.5)
    with pytest.raises(UnlikeWorkers, match=r"code: got 'number \d', expected 'number \d'"):
        pool.describe()
    close(pool)


class Stillborn(Doubler):
    """The first worker starts, the second never does."""

    def __init__(self, number):
        super().__init__(number)
        if number == 1:
            raise RuntimeError("no ComfyUI here")


@pytest.mark.full
def test_a_worker_that_never_starts_is_left_out_and_the_rest_does_the_jobs(ray):
    pool = on_ray.RayPool(ray, Stillborn, 2, cpus=0.5)
    pool.describe()
    outcomes = run(pool, [{"name": str(number), "value": number, "seconds": 0.5} for number in range(30)])
    assert [outcome.status for outcome in outcomes] == ["done"] * 30
    assert pool._failed_starts[1] == on_ray.MOST_STARTS and not pool._starting
    close(pool)


def test_one_worker_needs_no_ray(tmp_path):
    """In a process where Ray cannot be imported."""
    code = textwrap.dedent(f"""
        import runpy, sys
        sys.modules["ray"] = None
        from pathlib import Path
        runpy.run_path({str(FLEET / '__main__.py')!r}, run_name="loaded")["load"](Path({str(FLEET)!r}))
        from personalize_fleet import alone, command, on_ray
        from personalize_fleet.engine import Engine, Events
        class Worker:
            def describe(self): return {{}}
            def run(self, job): return {{"value": 2}}
            def progress(self): return {{}}
            def interrupt(self): pass
            def close(self): pass
        pool = alone.AlonePool(Worker)
        silent = Events(started=lambda *a: None, ended=lambda *a: None, progress=lambda *a: None)
        print([outcome.status for outcome in Engine(pool, silent).run([{{"name": "a"}}])])
        pool.close()
        try:
            on_ray.connect(None, {{}})
        except ImportError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "['done']" and "pip install ray" in second and "--workers 1" in second
