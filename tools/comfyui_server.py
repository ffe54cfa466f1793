"""The checkout's ComfyUI as a context manager, for `make demo`, the end-to-end tests and the browser tests: the server
that a user starts (`main.py`), with a base directory of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..fleet.client import Client, GraphFailed, GraphInterrupted, GraphRefused, raise_what_happened
from ..fleet.server import ComfyServer, ServerDied, free_port
from .install_comfyui import ROOT, comfyui_directory, link, venv_python

__all__ = ["Client", "GraphFailed", "GraphInterrupted", "GraphRefused", "Server", "ServerDied", "free_port",
           "make_base_directory", "raise_what_happened"]

FOLDERS = ("custom_nodes", "input", "output", "temp", "user",
           "models/checkpoints", "models/loras", "models/embeddings")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Of a server that was told nothing else: pocket and test models are too small for two threads, which lose more than
they gain as soon as a core is shared."""


def make_base_directory(base: Path) -> Path:
    """Make `base` a ComfyUI base directory that has this extension among its custom nodes."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    link(base / "custom_nodes" / "comfyui-personalize", ROOT)
    return base


class Server(ComfyServer):
    """A ComfyUI server on a free port, with its own base directory; stopped when the context ends, or this
    process, however it dies.

    Args:
        base: the base directory; made where missing.
        arguments: more options of ``main.py``.
        environment: variables that differ from this process's.
    """

    def __init__(self, base: Path, *, arguments: Sequence[str] = ("--cpu",),
                 environment: Mapping[str, str] | None = None):
        self.base = make_base_directory(base.resolve())
        own = ("--base-directory", str(self.base), "--database-url", f"sqlite:///{self.base / 'comfyui.db'}")
        super().__init__(comfyui_directory(), str(venv_python()), (*arguments, *own), self.base / "server.log",
                         {**ONE_THREAD, **os.environ, **(environment or {})}, is_guarded=True)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
