"""The command as a person starts it, with a real ComfyUI server and the pocket model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from fleet_rig import write_plan

from comfyui_personalize.tools.install_comfyui import ROOT, venv_python

PHOTOS = ROOT / "workflows" / "photos"
STEPS = 24
SMALL = {"Personalize Trainer": {"steps": STEPS, "batch": 1}, "Training Options": {"save_every": 4, "rank": 4},
         "Class images: what any dog looks like": {"count": 2, "steps": 2, "shown": 2},
         "KSampler: Your subject": {"steps": 2}}
LINK = "my extension's folder"


def start(plan: Path, *options: str) -> subprocess.Popen[str]:
    """`fleet run` from another working directory, the extension's folder under another name."""
    link = plan.parent / LINK
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)
    return subprocess.Popen([str(venv_python()), str(link / "fleet"), "run", str(plan), "--workers", "1", *options],
                            cwd=plan.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def run(plan: Path) -> tuple[int, list[dict], str]:
    """Exit status, events, and what was said to the person."""
    out, said = (process := start(plan)).communicate(timeout=500)
    return process.returncode, [json.loads(line) for line in out.splitlines()], said


def subject(folder: Path, name: str, *numbers: int) -> None:
    (folder / "rows" / name).mkdir(parents=True)
    for number in numbers:
        shutil.copy(PHOTOS / f"personalize_dog_{number}.png", folder / "rows" / name)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Two subjects, and one whose photo is broken, run once."""
    folder = tmp_path_factory.mktemp("night")
    subject(folder, "bello", 1)
    subject(folder, "rex", 2, 3)
    (folder / "rows" / "ruin").mkdir()
    (folder / "rows" / "ruin" / "1.png").write_bytes(b"no picture")
    (folder / "rows" / "rex" / "subject.yaml").write_text(
        "prompts: ['a {V} {noun} in the snow', 'a {V} {noun} on the beach']\n")
    plan = write_plan(folder, overrides=SMALL, retries={"seconds": 0.1})
    return folder, run(plan)


def test_all_but_the_broken_row_is_done_and_the_status_says_so(night):
    folder, (status, events, said) = night
    assert status == 1 and "2 done, 1 failed" in said, said
    ends = [(event["subject"], event["event"], event["again"]) for event in events if "again" in event]
    assert sorted(ends) == [("bello", "done", False), ("rex", "done", False), ("ruin", "failed", False),
                            ("ruin", "failed", True)]
    message = next(event["message"] for event in events if event["event"] == "failed")
    assert "1.png" in message


def test_each_subject_has_adapter_pictures_report_and_log(night):
    folder, _ = night
    for name, prompts in (("bello", 1), ("rex", 2)):
        home = folder / "out" / name
        record = json.loads((home / "result.json").read_text())
        assert (home / f"{name}.safetensors").stat().st_size > 1000
        assert len(record["pictures"]) == 4 * prompts
        assert all((home / picture["file"]).stat().st_size > 1000 for picture in record["pictures"])
        assert f"{STEPS} steps" in (home / "report.txt").read_text()
        assert "got prompt" in (home / "job.log").read_text()
    page = (folder / "out" / "index.html").read_text()
    assert page.index(">ruin<") < page.index(">bello<") and page.count("<img") == 8


def test_what_is_done_is_not_run_again_and_a_killed_command_leaves_no_server(night):
    folder, _ = night
    process = start(folder / "plan.yaml")
    assert process.stdout is not None
    told: list[dict] = []
    while "failed" not in [event["event"] for event in told]:  # then it waits for its next try
        told.append(json.loads(process.stdout.readline()))
    children = psutil.Process(process.pid).children(recursive=True)
    commands = [" ".join(child.cmdline()) for child in children]
    process.kill()
    process.communicate()
    assert {event["subject"] for event in told} == {"ruin"}
    assert any("main.py" in command for command in commands)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, [child.cmdline() for child in alive]


def test_a_stop_keeps_what_was_learned_and_the_next_run_ends_with_the_same_bits(night, tmp_path):
    folder, _ = night
    subject(tmp_path, "bello", 1)
    plan = write_plan(tmp_path, overrides=SMALL)
    process = start(plan)
    state = tmp_path / "out" / "work" / "output" / "personalize" / "bello" / "state.safetensors"
    while not state.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "kept" in said, said
    assert not (tmp_path / "out" / "bello" / "result.json").exists()
    assert state.exists() and not (state.parent / f"adapter-{STEPS:06d}.safetensors").exists()
    assert run(plan)[0] == 0
    ours, alone = (place / "out" / "bello" / "bello.safetensors" for place in (tmp_path, folder))
    assert ours.read_bytes() == alone.read_bytes()
