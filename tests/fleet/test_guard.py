"""A guarded program ends with whoever started it, however that one dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from comfyui_personalize.tools.install_comfyui import ROOT

GUARD = ROOT / "fleet" / "guard.py"


@pytest.fixture
def program(tmp_path):
    """A program that says who it is and what it was given, and would run for a minute."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        assert __name__ == "__main__" and sys.path[0] == str(Path(__file__).parent)
        Path("said").write_text(f"{os.getpid()} {' '.join(sys.argv[1:])}")
        time.sleep(60)
    """))
    return path


def started(program: Path) -> tuple[subprocess.Popen, psutil.Process]:
    """Someone who starts the program guarded, and the program."""
    code = ("import subprocess, sys, time\n"
            f"kept = subprocess.Popen([sys.executable, {str(GUARD)!r}, {str(program)!r}, '--port', '1'], "
            "stdin=subprocess.PIPE, start_new_session=True)\ntime.sleep(60)")
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=program.parent)
    said = program.parent / "said"
    while not said.exists() or not said.read_text():
        assert starter.poll() is None
        time.sleep(0.02)
    pid, arguments = said.read_text().split(" ", 1)
    assert arguments == "--port 1"
    return starter, psutil.Process(int(pid))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_guarded_program_ends_with_its_starter(program, how):
    starter, process = started(program)
    starter.send_signal(how)
    starter.wait()
    process.wait(timeout=15)


def test_nobody_stands_between_the_starter_and_the_program(program):
    """Ray kills what a dead worker has started; were that only a guard, its program would live on."""
    starter, process = started(program)
    assert process.ppid() == starter.pid
    process.kill()
    starter.kill()
    starter.wait()
