"""Runs a Python file for as long as whoever started it lives: a killed worker leaves no server behind on its GPU.

The starter holds the other end of this process's standard input; when it dies in any way, the input ends. The file runs
in this very process, so that there is nobody between the two who could be killed alone.
Run as a file: `python guard.py FILE ARGUMENTS ...`.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 10.0


def end_with_the_starter() -> None:
    """Wait for the input's end; then end, kindly at first."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_starter, daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
