"""The trials of `make torture`: its tools do what they say, and a small seeded part of the campaign holds."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
import torch

from comfyui_personalize.core.store.files import write_bytes, write_tensors
from comfyui_personalize.tools.install_comfyui import HOME, PACKAGE_LINK, ROOT, link
from comfyui_personalize.tools.torture import bit_flips, injected, kills, mutations, route_requests, soak, stores
from comfyui_personalize.tools.torture.__main__ import is_bad
from comfyui_personalize.tools.torture.record import Record, Result, missing, total
from comfyui_personalize.tools.torture.rig import Outcome, forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="lacks fork")


def test_a_campaign_that_was_cut_off_goes_on_with_what_is_missing(tmp_path):
    record = Record(tmp_path, "kills")
    record.add("one", Result(attempts=3, counts=Counter(kills=3)))
    record.add("two", Result(lost=["gone"], counts=Counter(kills=1)))
    with record.path.open("a") as file:
        file.write('{"trial": "three", "att')
    assert missing(["one", "two", "three"], record) == ["three"]
    sums = total(record.results())
    assert (sums.trials, sums.attempts, sums.lost, sums.counts["kills"]) == (2, 4, ["two: gone"], 4)


def test_a_kind_whose_trials_could_not_be_made_is_as_bad_as_one_that_lost(tmp_path):
    record = Record(tmp_path, "kills")
    assert is_bad("kills", "small", tmp_path)
    for name in kills.trials("small"):
        record.add(name, Result())
    assert not is_bad("kills", "small", tmp_path)
    record.add("one more", Result(lost=["gone"]))
    assert is_bad("kills", "small", tmp_path)


def test_one_bit_is_flipped(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(64)}, {})
    before = path.read_bytes()
    bit_flips.flip(path, random.Random(1))
    changed = [one ^ other for one, other in zip(before, path.read_bytes(), strict=True) if one != other]
    assert len(changed) == 1 and changed[0].bit_count() == 1


def in_child(work) -> list[str]:
    outcome = forked(work, HOME / "tmp" / "torture.log")
    assert not outcome.raised, outcome.trace
    return outcome.value


def test_every_operation_of_a_written_file_is_seen(tmp_path):
    def work() -> list[str]:
        seen: list[str] = []
        injected.watch_files([tmp_path], seen.append)
        write_bytes(tmp_path / "a.bin", b"12345678")
        return seen

    seen = in_child(work)
    assert any(what.startswith("while writing") for what in seen)
    assert any(what.startswith("before fsync") for what in seen)
    assert f"after replace of {tmp_path.name}/a.bin" in seen


def test_a_full_disk_is_told_as_such_and_the_old_file_stays(tmp_path):
    write_bytes(tmp_path / "a.bin", b"old")

    def work() -> str:
        injected.watch_files([tmp_path], lambda what: None, injected.disk_of(5))
        try:
            write_bytes(tmp_path / "a.bin", b"12345678")
        except RuntimeError as error:
            return type(error).__name__
        return "nothing"

    assert in_child(work) == "StorageError"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_child_that_is_killed_or_dies_is_told_apart(tmp_path):
    log = tmp_path / "log.txt"
    assert forked(lambda: 1, log) == Outcome(value=1)
    assert forked(lambda: os._exit(3), log).ending == "died"
    assert forked(lambda: __import__("time").sleep(60), log, kill_after=0.2).ending == "killed"
    assert forked(lambda: 1 / 0, log).is_raw


def test_a_state_that_goes_back_and_a_torn_file_are_seen(tmp_path):
    folder = tmp_path / "output" / "personalize" / "tortured"
    folder.mkdir(parents=True)
    write_tensors(folder / "state.safetensors", {"a": torch.zeros(4)}, {"step": 4})
    watch = stores.Watch(tmp_path)
    write_tensors(folder / "state.safetensors", {"a": torch.zeros(4)}, {"step": 2})
    assert watch.look() == ["the state went back from step 4 to 2"]
    path = folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    assert any("is torn" in sentence for sentence in watch.look())


HELD = ("kills", "cancels", "full_disk", "bit_flips")
HELD_TOO = ("file_operations", "faults", "hostile_files", "two_servers")
INFO = {"PersonalizeSubjectPhotos": {"input": {"required": {
    "identifier": ["STRING", {"default": "sks"}], "count": ["INT", {"default": 1, "min": 0, "max": 9}],
    "image": ["IMAGE", {}]}}, "output": ["SUBJECT"], "output_node": False},
    "LoadImage": {"input": {"required": {"image": ["STRING", {}]}}, "output": ["IMAGE"], "output_node": False}}
GRAPH = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
         "2": {"class_type": "PersonalizeSubjectPhotos",
               "inputs": {"identifier": "sks", "count": 1, "image": ["1", 0]}}}


def test_the_same_number_is_the_same_prompt_and_others_differ():
    first, second = (mutations.Mutator([GRAPH], INFO, ["PersonalizeSubjectPhotos"]) for _ in range(2))
    prompts = [repr(first.prompt(number)) for number in range(60)]
    assert prompts == [repr(second.prompt(number)) for number in range(60)]
    assert len(set(prompts)) > 50


def test_growth_is_measured_after_the_warm_up():
    steady = [100 + 5 * min(number, 50) for number in range(300)]
    assert soak.grown(steady, 50) == (0, 0)
    growth, per_job = soak.grown([1000 + number for number in range(300)], 50)
    assert per_job == pytest.approx(1) and growth == pytest.approx(245 / 1052)


def test_every_request_that_could_change_a_run_is_wrong_in_one_way_at_least():
    ids = ["a" * 32, "b" * 32]
    asked = [route_requests.make_request(number, ids) for number in range(600)]
    assert {one.method for one in asked} == {*route_requests.METHODS}
    assert asked[7] == route_requests.make_request(7, ids)
    whole = [one for one in asked if one.method == "POST" and one.headers == {"Content-Type": "application/json"}
             and any(one.body == json.dumps(body).encode() for run in ids
                     for body in ({"run": run}, {"run": run, "name": "renamed"}))
             and one.path.endswith(route_requests.CHANGES)]
    strangers = [one for one in asked if any(name in one.headers for name in ("Origin", "Sec-Fetch-Site"))]
    assert whole == [] and len(strangers) > 30


def test_an_error_of_the_server_and_a_change_that_was_made_are_lost():
    result = Result(attempts=0)
    post = route_requests.Asked("POST", "/personalize/runs/delete")
    for status, body in ((500, b""), (200, b"{}"), (400, b'{"error": {}}'), (400, b'{"error": {"message": "m"}}'),
                         (403, b"")):
        route_requests.judge(post, status, body, 1, result)
    assert len(result.lost) == 3 and result.counts["HTTP 400"] == 2


@pytest.mark.parametrize("kinds", [HELD, pytest.param(HELD_TOO, marks=pytest.mark.full)], ids=" ".join)
def test_a_small_campaign_holds(kinds, tmp_path):
    """What was lost is in the output where it does not hold."""
    link(PACKAGE_LINK, ROOT)
    command = [sys.executable, "-m", f"{PACKAGE_LINK.name}.tools.torture", "--small", "--state", str(tmp_path),
               "--only", *kinds]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(PACKAGE_LINK.parent)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
