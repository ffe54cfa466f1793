"""The bench's cells are the same on the fleet as alone."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial

import pytest

from comfyui_personalize.benchmarks.evidence import on_fleet
from comfyui_personalize.benchmarks.evidence.cell_files import made_from, write_cell
from comfyui_personalize.benchmarks.evidence.methods import METHODS
from comfyui_personalize.fleet.alone import AlonePool
from comfyui_personalize.tools.install_comfyui import ROOT

ALONE = argparse.Namespace(workers=1, address=None)
TWO_CELLS = textwrap.dedent("""
    import argparse, sys
    from dataclasses import replace
    from functools import partial
    from pathlib import Path
    from comfyui_personalize.benchmarks.evidence.on_fleet import make_all, missing
    from comfyui_personalize.benchmarks.evidence.comfy_process import start_comfyui
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    start_comfyui(folder / "comfyui")
    from comfyui_personalize.benchmarks.evidence.bench import PROMPTS
    from comfyui_personalize.benchmarks.evidence.cells import Plan, made_of, make_cell
    from comfyui_personalize.benchmarks.evidence.methods import METHODS
    method, plan = replace(METHODS["lora"], steps=2), Plan(prompts=PROMPTS[:1], checkpoints=(1.0,))
    keys = [(method.name, number, 0) for number in (0, 1)]
    cells = {name: partial(make_cell, method=method, number=key[1], seed=0, plan=plan, folder=folder)
             for name, key in missing(keys, folder, lambda name: made_of(method, plan)).items()}
    make_all(cells, argparse.Namespace(workers=workers, address=None), folder / "comfyui")
    if workers == 1:  # prompts call the subject as it was trained
        from comfyui_personalize.benchmarks.evidence.cells import case_of, train
        from comfyui_personalize.benchmarks.evidence.comfy_process import load_pocket
        assert train(load_pocket(), method, case_of(method, 0), 2, 0)[1] == "sks"
""")


class Caller:
    """A worker without ComfyUI."""

    def describe(self):
        return {}

    def run(self, job):
        job["make"](None)
        return {}

    def progress(self):
        return {}

    def interrupt(self):
        pass

    def close(self):
        pass


def touch(loaded, path):
    path.touch()


def fail(loaded):
    raise OSError("no space left")


def test_only_cells_that_are_not_on_disk_as_they_are_made_today_are_made(tmp_path):
    write_cell(tmp_path / "lora-8-0.json", {"made_from": "today's"})
    write_cell(tmp_path / "lora-9-0.json", {"made_from": "another rate"})
    write_cell(tmp_path / "lora-10-0.json", {})
    keys = [("lora", number, 0) for number in (8, 9, 10, 11)]
    assert list(on_fleet.missing(keys, tmp_path, lambda name: "today's")) == ["lora-9-0", "lora-10-0", "lora-11-0"]


def test_what_a_cell_is_made_from_changes_with_what_is_chosen():
    method = METHODS["lora"]
    found = {made_from(method), made_from(replace(method, steps=3)), made_from(replace(method, learning_rate=0.5)),
             made_from(method, "another sampler")}
    assert len(found) == 4 and made_from(method) in found


def test_a_cell_that_fails_keeps_no_other_from_being_made(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(on_fleet, "_pool", lambda workers, address, make: AlonePool(Caller))
    monkeypatch.setattr(on_fleet, "Engine", partial(on_fleet.Engine, pause=0.01))
    cells = {"bad": fail, "good": partial(touch, path=tmp_path / "good")}
    with pytest.raises(SystemExit, match="1 of 2 cells are open; the same command goes on"):
        on_fleet.make_all(cells, ALONE, tmp_path)
    assert (tmp_path / "good").exists() and "no space left" in caplog.text


@pytest.mark.full
def test_cells_of_two_workers_have_the_bits_of_one_process(tmp_path):
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        made = subprocess.run([sys.executable, "-c", TWO_CELLS, str(tmp_path / str(workers)), str(workers)],
                              env=environment(), capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    alone, together = (digests(tmp_path / str(workers)) for workers in (1, 2))
    assert len(alone) == 6 and alone == together


def digests(folder):
    """Of the cells' figures, pictures and sheets."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT / ".comfyui" / "package"), "OMP_NUM_THREADS": "1"}
