"""Four of the gallery's workflows in turn, in one process: nothing that they made is held afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from comfyui_personalize.tools.install_comfyui import ROOT


@pytest.mark.full
def test_eight_jobs_hold_no_more_than_four():
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--first", "4", "--last", "8"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "4 jobs: 0 storages" in done.stdout and "8 jobs: 0 storages" in done.stdout
