"""The script for NVIDIA cards, rehearsed on the CPU with tiny networks; without a card it ends well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments], check=True,
                          env=environment, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a card")
def test_without_a_card_nothing_is_measured_and_nothing_fails(tmp_path):
    assert "no NVIDIA card here" in run("--out", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_rehearsal_cancels_resumes_and_restores(tmp_path):
    text = run("--rehearse", "--models", "sd15", "--steps", "5", "--plans", "Flux.1", "--out", str(tmp_path))
    assert "these figures mean nothing" in text and text.strip() == (tmp_path / "gpu_rehearsal.md").read_text().strip()
    found = json.loads((tmp_path / "gpu_rehearsal.json").read_text())
    (figures,), (plan,) = found["models"], found["plans"]
    assert plan["model"] == "Flux.1" and plan["step_ms"] > 0
    assert figures["cancelled_at"] == figures["resumed_from"] == 2
    assert figures["is_restored"]
    assert all(figures[name] > 0 for name in ("bare_ms", "ours_ms", "plain_ms", "dci_ms"))
