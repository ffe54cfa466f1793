"""A custom node for servers under torture: it knows the tiny model, and notes what leads out of the server's folders.

It has no nodes. `TORTURE_WATCH` names the file, `TORTURE_ALLOWED` (JSON) the folders that may be written.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MOVED = {"os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1,
         "os.chmod": 1, "os.chown": 1, "os.utime": 1}
"""Events that change files, and how many of their first arguments are paths."""
RUN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
HARMLESS = ("fc-list",)
"""Programs that libraries of ComfyUI start: matplotlib lists the system's fonts."""
LOCAL = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", None)  # noqa: S104 - compared with; nothing is bound


def watch() -> None:
    """Write a line for every file that is changed outside, every connection, and every program that is started."""
    allowed = tuple(os.path.realpath(path) for path in json.loads(os.environ["TORTURE_ALLOWED"]))
    notes = os.open(os.environ["TORTURE_WATCH"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, what: Any) -> None:
        os.write(notes, (json.dumps([event, str(what)[:500]]) + "\n").encode())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        try:
            for what in told(event, arguments):
                note(event, what)
            for path in changed_paths(event, arguments):
                if is_outside(path, allowed) and not (event == "os.mkdir" and os.path.exists(path)):
                    note(event, path)
        except (OSError, ValueError, TypeError):
            return

    sys.addaudithook(hook)


def is_outside(path: Any, allowed: tuple[str, ...]) -> bool:
    """Whether a path leads out of the allowed folders; a file that is open already does not."""
    if isinstance(path, int):
        return False
    real = os.path.realpath(os.fsdecode(path))
    return not (real.startswith(allowed) or real == os.devnull or "__pycache__" in real)


def inside(path: Any, folder: Any) -> Any:
    """The path, where it is relative to an open folder (the last argument of an event, or -1)."""
    if isinstance(path, int) or not isinstance(folder, int) or folder < 0 or os.path.isabs(os.fsdecode(path)):
        return path
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))


def changed_paths(event: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The files that an event changes."""
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & CHANGES:
        return arguments[:1]
    return tuple(inside(path, arguments[-1]) for path in arguments[:MOVED.get(event, 0)])


def told(event: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What an event connects with or starts."""
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        return arguments[1:2]
    is_told = event == "socket.getaddrinfo" and arguments[0] not in LOCAL or \
        event in RUN and os.path.basename(str(arguments[0])) not in HARMLESS
    return arguments[:1] if is_told else ()


def know_tiny_model(checkout: str) -> None:
    """Let the stock loaders know the tests' tiny model."""
    from comfy import supported_models

    path = Path(checkout) / "tests" / "nodes" / "tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_model"] = module
    spec.loader.exec_module(module)
    supported_models.models.append(module.TinyModel)


if "TORTURE_WATCH" in os.environ:
    know_tiny_model(os.environ["TORTURE_CHECKOUT"])
    watch()
