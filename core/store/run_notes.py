"""What is noted beside a run's results for people: whose it is, on what it was trained, the graph, a thumbnail.

    <root>/<run name>/about.json      base model's name, users
                      graph.json      the newest graph that asked for the run
                      thumbnail.jpg

Nothing of it is needed to load or resume a run, and nothing of it is in its key.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from .files import StorageError, canonical_json, write_bytes
from .metadata import TEXT, TEXTS, VERSION, Rules, check, optional, parse

ABOUT, GRAPH, THUMBNAIL = "about.json", "graph.json", "thumbnail.jpg"
RULES: Rules = {"base_model": optional(TEXT), "users": optional(TEXTS)}
LARGEST = 8_000_000
"""Bytes of a graph that is kept or read."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a run beside its results.

    Attributes:
        base_model: name of the checkpoint's file; empty where no graph told it.
        users: who asked for the run, on a server that tells users apart.
    """

    base_model: str = ""
    users: tuple[str, ...] = ()


def read_about(folder: Path) -> About:
    """A run's notes; empty where there are none that can be read."""
    found = _read(folder / ABOUT)
    with contextlib.suppress(InputError):
        check(folder / ABOUT, found, RULES)
        return About(base_model=found.get("base_model", ""), users=tuple(found.get("users", ())))
    return About()


def read_graph(folder: Path) -> dict[str, Any]:
    """`prompt` (as the API takes it) and `workflow` (as the editor does) of the graph that asked for a run last."""
    return {name: value for name, value in _read(folder / GRAPH).items() if name in ("prompt", "workflow")}


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(InputError, OSError):
        if path.stat().st_size <= LARGEST:
            return parse(path, path.read_bytes())
    return {}


def note_run(folder: Path, base_model: str, user: str, graph: Mapping[str, Any]) -> None:
    """Note who asks for a run now, and by what graph; earlier users stay, an earlier graph is replaced.

    Whatever cannot be written is left out: a run goes on without notes.
    """
    before = read_about(folder)
    users = [*before.users, *([user] if user and user not in before.users else [])]
    about = About(base_model=base_model or before.base_model, users=tuple(users))
    _write(folder / ABOUT, _about_bytes(about))
    with contextlib.suppress(ValueError, TypeError, RecursionError):  # NaN, no JSON at all
        data = json.dumps({"version": VERSION, **graph}, allow_nan=False).encode()
        if graph and len(data) <= LARGEST:
            _write(folder / GRAPH, data)


def forget_user(folder: Path, user: str) -> None:
    """Note that a run is not a user's any more.

    Raises:
        StorageError: the note cannot be written.
    """
    before = read_about(folder)
    write_bytes(folder / ABOUT, _about_bytes(replace(before, users=tuple(set(before.users) - {user}))))


def _about_bytes(about: About) -> bytes:
    return canonical_json({"version": VERSION, "base_model": about.base_model, "users": sorted(about.users)}).encode()


def keep_thumbnail(folder: Path, data: bytes) -> None:
    """Keep a run's thumbnail, a JPEG, where the disk takes it."""
    _write(folder / THUMBNAIL, data)


def _write(path: Path, data: bytes) -> None:
    try:
        if path.exists() and path.read_bytes() == data:
            return
        write_bytes(path, data)
    except (StorageError, OSError) as reason:
        logging.warning("A note about a run is left out: %s", reason)
