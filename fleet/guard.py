"""Runs a command for as long as whoever started it lives: a killed worker leaves no server behind on its GPU.

The starter holds the other end of this process's standard input; when it dies in any way, the input ends.
Run as a file: `python guard.py COMMAND ...`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 10.0


def main(command: list[str]) -> int:
    """The command's exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - a list, no shell
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def end_with_the_starter() -> None:
        while os.read(0, 1024):
            pass
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=end_with_the_starter, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
