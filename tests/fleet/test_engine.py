"""What is tried again, what is set aside, what a stop leaves."""

from __future__ import annotations

import pytest
from fleet_rig import SILENT

from comfyui_personalize.fleet.engine import LONGEST_PAUSE, Engine, Events, Outcome


class Script:
    """A pool whose jobs end as a script says: by name a list of (status, message), one per try."""

    def __init__(self, workers: int, ends: dict[str, list[tuple[str, str]]]):
        self.free, self.ends, self.running, self.given = list(range(workers)), ends, {}, []
        self.is_interrupted = False
        self.now = 0.0

    def idle(self):
        return list(self.free)

    def give(self, worker, job):
        self.free.remove(worker)
        self.running[worker] = job["name"]
        self.given.append((self.now, job["name"]))

    def wait(self, seconds):
        self.now += seconds
        ended = []
        for worker, job in list(self.running.items()):
            status, message = self.ends[job].pop(0) if self.ends[job] else ("done", "")
            if self.is_interrupted:
                status, message = "stopped", ""
            ended.append(Outcome(worker=worker, job=job, status=status, message=message))
            del self.running[worker]
            self.free.append(worker)
        return ended

    def progress(self):
        return {}

    def interrupt(self):
        self.is_interrupted = True

    def close(self):
        pass


def jobs(*names):
    return [{"name": name} for name in names]


def run(pool, *names, **options):
    return Engine(pool, SILENT, clock=lambda: pool.now, **options).run(jobs(*names))


def test_every_job_ends_exactly_once():
    names = [f"job {number}" for number in range(20)]
    pool = Script(3, {name: [] for name in names})
    assert sorted(outcome.job for outcome in run(pool, *names)) == sorted(names)
    assert len(pool.given) == 20


def test_a_job_whose_worker_was_lost_is_tried_again_after_a_pause_that_doubles():
    pool = Script(1, {"a": [("lost", "power")] * 3})
    (outcome,) = run(pool, "a", pause=4.0)
    assert outcome.status == "done"
    first, second, third, fourth = (moment for moment, _ in pool.given)
    assert second - first >= 4 and third - second >= 8 and fourth - third >= 16


def test_the_pause_never_exceeds_five_minutes():
    pool = Script(1, {"a": [("lost", "power")] * 5})
    run(pool, "a", pause=200.0)
    moments = [moment for moment, _ in pool.given]
    assert max(after - before for before, after in zip(moments, moments[1:], strict=False)) <= LONGEST_PAUSE + 3


def test_a_job_that_loses_too_many_workers_is_given_up_as_lost():
    (outcome,) = run(Script(1, {"a": [("lost", "power")] * 9}), "a", most_lost=2, pause=0.0)
    assert (outcome.status, outcome.message) == ("lost", "power")


def test_the_same_failure_twice_sets_a_job_aside_while_the_rest_goes_on():
    pool = Script(1, {"bad": [("failed", "photos: none")] * 9, "good": []})
    outcomes = {outcome.job: outcome for outcome in run(pool, "bad", "good", pause=1.0)}
    assert outcomes["bad"].status == "failed" and outcomes["bad"].message == "photos: none"
    assert outcomes["good"].status == "done"
    assert [name for _, name in pool.given].count("bad") == 2


def test_different_failures_are_tried_three_times():
    pool = Script(1, {"bad": [("failed", str(number)) for number in range(9)]})
    run(pool, "bad", pause=0.0)
    assert len(pool.given) == 3


def test_a_failure_that_passes_is_done():
    (outcome,) = run(Script(1, {"a": [("failed", "a full drive")]}), "a", pause=0.0)
    assert outcome.status == "done"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_hands_out_nothing_more_and_interrupts_what_runs(workers):
    pool = Script(workers, {name: [] for name in "abcd"})
    events = Events(started=lambda worker, job: engine.stop(), ended=SILENT.ended, progress=SILENT.progress)
    engine = Engine(pool, events, clock=lambda: pool.now)
    outcomes = engine.run(jobs(*"abcd"))
    assert [outcome.status for outcome in outcomes] == ["stopped"] * workers
    assert len(pool.given) == workers
