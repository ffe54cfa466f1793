"""A ComfyUI server's process: started on a free port, waited for, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

from .client import POLL_SECONDS, Client

START_SECONDS = 180.0


class ServerDied(RuntimeError):
    """The server process ended, or never answered; the message ends with its log."""


def free_port() -> int:
    """A TCP port that nobody listens on now, and that for about a minute nobody else is given.

    Servers started side by side look for a port at once and bind it seconds later. A connection that the port's own
    side ended keeps it (TIME_WAIT) from all who ask for any port, and leaves it to the server that asks by number.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else it is kept from the server too
        probe.bind(("127.0.0.1", 0))
        probe.listen(1)
        with socket.create_connection(probe.getsockname()):
            probe.accept()[0].close()
        return probe.getsockname()[1]


class ComfyServer:
    """`main.py` of one ComfyUI, listening on 127.0.0.1 alone.

    Args:
        comfyui: the folder with main.py.
        python: the interpreter that ComfyUI runs in.
        arguments: options of main.py, the port apart.
        log_file: takes what the server writes.
        environment: the whole environment of the process; this process's where it is left out.
        is_guarded: the server ends when this process dies, however it dies.
    """

    def __init__(self, comfyui: Path, python: str, arguments: Sequence[str], log_file: Path,
                 environment: Mapping[str, str] | None = None, *, is_guarded: bool = False):
        self.comfyui, self.python, self.arguments, self.log_file = comfyui, python, tuple(arguments), log_file
        self.environment = dict(os.environ if environment is None else environment)
        self.is_guarded = is_guarded
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process's number, while there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and wait until it answers. Raises: ServerDied."""
        port = free_port()
        guard = [str(Path(__file__).with_name("guard.py"))] if self.is_guarded else []
        command = [self.python, *guard, "main.py", *self.arguments, "--port", str(port), "--disable-auto-launch"]
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a list, no shell
                command, cwd=self.comfyui, env=self.environment, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE if self.is_guarded else subprocess.DEVNULL, start_new_session=True)
        self.client = Client(f"http://127.0.0.1:{port}")
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + START_SECONDS
        while self.is_alive and time.monotonic() < end:
            try:
                self.client.get("/system_stats", timeout=5.0)
                return
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(POLL_SECONDS)
        tail = self.log_text()[-3000:]
        self.stop()
        raise ServerDied(f"ComfyUI did not start within {START_SECONDS:.0f} s; its log ends:\n{tail}")

    def log_text(self) -> str:
        """What the server wrote so far."""
        return self.log_file.read_text(errors="replace")

    def stop(self) -> None:
        """End the process, kindly at first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a power cut does."""
        self._end(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self.is_alive:
            self._process.send_signal(how)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
