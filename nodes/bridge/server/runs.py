"""Routes to the runs that are kept, for the editor's list and for scripts. A run is named by its id, never by a path.

GET /personalize/runs lists them, /runs/{run} tells one, /runs/{run}/graph and /runs/{run}/thumbnail give its notes.
POST /personalize/runs/rename {"run", "name"}, /runs/delete {"run"} and /runs/open {"run"} change something.

A server that tells users apart shows each user the runs that they asked for, and those of nobody, as ComfyUI does with
its assets.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from ....core.errors import InputError, require
from ....core.store.files import StorageError
from ....core.store.run_list import (
    Summary,
    delete_run,
    find_by_id,
    history,
    is_training,
    list_runs,
    rename_run,
    run_id,
    summarise,
)
from ....core.store.run_notes import GRAPH, THUMBNAIL, About, forget_user, read_about, read_graph
from ....core.store.runs import Run
from ..files.run_results import result_name
from ..output import runs_root
from .routes import NotThere, change_route, read_route
from .users import user_of

MOST_POINTS = 200
"""Of a loss curve."""
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers of proxies, behind which everybody seems to be on this machine."""
THUMBNAIL_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=86400"}
"""A changed thumbnail has another address, for the list says when it changed."""
Value = TypeVar("Value")


async def tell_runs(request: web.Request, _: dict[str, Any]) -> dict[str, Any]:
    """All runs that the user may see, the newest first."""
    user = user_of(request)
    entries = await _in_thread(lambda: [_entry(run, about) for run, about in _seen_by(user)])
    return {"runs": sorted(entries, key=lambda entry: entry["modified"], reverse=True), "can_open": _is_here(request)}


async def tell_run(request: web.Request, values: dict[str, Any]) -> dict[str, Any]:
    """One run, with its settings and its loss curve."""
    user = user_of(request)
    return await _in_thread(lambda: _details(*_found(user, values["run"])))


async def tell_graph(request: web.Request, values: dict[str, Any]) -> dict[str, Any]:
    """The graph that asked for a run last."""
    user = user_of(request)
    graph = await _in_thread(lambda: read_graph(_found(user, values["run"])[0].folder))
    if not graph:
        raise NotThere("run", values["run"], "a run whose graph was kept",
                       "Runs of earlier versions, of scripts without a server and of --disable-metadata have none.")
    return graph


async def show_thumbnail(request: web.Request, values: dict[str, Any]) -> web.Response:
    """A run's thumbnail."""
    user = user_of(request)
    path = (await _in_thread(lambda: _found(user, values["run"])))[0].folder / THUMBNAIL
    try:
        data = await _in_thread(path.read_bytes)
    except OSError as reason:
        raise NotThere("run", values["run"], "a run with a thumbnail", "There is none.") from reason
    return web.Response(body=data, content_type="image/jpeg", headers=THUMBNAIL_HEADERS)


async def rename(request: web.Request, values: dict[str, Any]) -> dict[str, Any]:
    """Give a run another name; tells it as in the list, for its id is another one, too."""
    user = user_of(request)

    def change() -> dict[str, Any]:
        run, about = _found(user, values["run"])
        return _entry(rename_run(runs_root(), run, values["name"]), about)

    return await _in_thread(change)


async def delete(request: web.Request, values: dict[str, Any]) -> dict[str, Any]:
    """Delete a run, with all files of its folder; where others asked for it too, only this user's list loses it."""
    user = user_of(request)

    def change() -> dict[str, Any]:
        run, about = _found(user, values["run"])
        if user is not None and set(about.users) - {user}:
            forget_user(run.folder, user)
        else:
            delete_run(runs_root(), run)
        return {"deleted": run.name}

    return await _in_thread(change)


async def open_folder(request: web.Request, values: dict[str, Any]) -> dict[str, Any]:
    """Open a run's folder in this machine's file manager, for somebody who sits at it."""
    user = user_of(request)
    require(_is_here(request), "client", "another machine", "the one that ComfyUI runs on",
            "Open the folder there: it is personalize in ComfyUI's output folder.")
    run, _ = await _in_thread(lambda: _found(user, values["run"]))
    await _in_thread(lambda: show_folder(run.folder))
    return {"opened": run.name}


async def _in_thread(work: Callable[[], Value]) -> Value:
    """What a function that reads or changes the disk gives, while the server answers others.

    Raises:
        InputError: also where the disk would not take a change.
    """
    try:
        return await asyncio.to_thread(work)
    except StorageError as reason:
        raise InputError("run", reason.reason.strerror or "an error of the disk", "a folder that can be changed",
                         "Close programs that use its files, and look at its permissions.") from reason


def _seen_by(user: str | None) -> list[tuple[Run, About]]:
    """The runs of a user and those of nobody; all where users are not told apart."""
    found = [(run, read_about(run.folder)) for run in list_runs(runs_root())]
    return [(run, about) for run, about in found if user is None or not about.users or user in about.users]


def _found(user: str | None, identity: str) -> tuple[Run, About]:
    """The run of an id, if the user may see it."""
    try:
        run = find_by_id(runs_root(), identity)
    except InputError as reason:
        raise NotThere(reason.name, ascii(identity)[:80], reason.expected, reason.fix) from reason
    about = read_about(run.folder)
    if user is not None and about.users and user not in about.users:
        raise NotThere("run", ascii(identity)[:80], "a run that is there", "Load the list again.")
    return run, about


def _entry(run: Run, about: About) -> dict[str, Any]:
    """A run as the list shows it."""
    found = summarise(run)
    thumbnail = run.folder / THUMBNAIL
    return {
        "run": run_id(run), "name": run.name, "loads": result_name(run.name) if found.steps else "",
        "class_nouns": found.metadata.get("class_nouns", []), "identifiers": found.metadata.get("identifiers", []),
        "base_model": about.base_model, "steps": list(found.steps), "trained": found.trained, "size": found.size,
        "modified": found.modified, "is_training": is_training(runs_root(), run),
        "has_graph": (run.folder / GRAPH).exists(),
        "thumbnail": thumbnail.stat().st_mtime_ns // 1_000_000 if thumbnail.exists() else 0,
    }


def _details(run: Run, about: About) -> dict[str, Any]:
    """The same with settings and losses."""
    step, losses, _ = history(run)
    return _entry(run, about) | {"settings": _settings(summarise(run)), "losses": means(losses), "last_step": step}


def _settings(found: Summary) -> dict[str, Any]:
    """What a run was trained with, by name: plain values alone, options without their defaults' company."""
    metadata = found.metadata
    config = metadata.get("config", {})
    options = config.get("options", {})
    adapter = options.get("adapter", {}) if isinstance(options, dict) else {}
    parts = [("captions", ", ".join(metadata.get("captions", []))), ("seen", metadata.get("exposure", "")),
             *config.items(), *options.items(), *(adapter.items() if isinstance(adapter, dict) else ())]
    objectives = config.get("objectives")
    known = objectives if isinstance(objectives, list) else []
    kinds = [str(one.get("kind")) for one in known if isinstance(one, dict)]
    plain = {name: value for name, value in parts if isinstance(value, str | int | float)}
    return plain | {"objectives": ", ".join(kinds) or "photos alone"}


def means(losses: Sequence[float]) -> list[float]:
    """A curve of at most 200 points: each the mean of as many losses."""
    each = max(1, -(-len(losses) // MOST_POINTS))
    parts = [losses[start:start + each] for start in range(0, len(losses), each)]
    return [sum(part) / len(part) for part in parts]


def _is_here(request: web.Request) -> bool:
    """Whether whoever asks sits at this machine: connected from it, under its own name, through no proxy."""
    named = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    is_own_name = named == "localhost" or _is_loopback(named)  # else a stranger's name could lead here
    return _is_loopback(request.remote or "") and is_own_name and not any(name in request.headers for name in FORWARDED)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def show_folder(folder: Path) -> None:
    """Open a folder in the file manager.

    Raises:
        InputError: this machine has none.
    """
    if sys.platform == "win32":
        os.startfile(folder)  # noqa: S606 - a folder of ours, and no program
        return
    program = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if program is None:
        raise InputError("client", "a machine without a file manager", "one with xdg-open", "Open the folder by hand.")
    subprocess.Popen([program, str(folder)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,  # noqa: S603
                     stderr=subprocess.DEVNULL, start_new_session=True)  # the system's own, and a folder found by id


RUN = {"run": str}
RUN_ROUTES = (
    read_route("/runs", tell_runs), read_route("/runs/{run}", tell_run, RUN),
    read_route("/runs/{run}/graph", tell_graph, RUN),
    read_route("/runs/{run}/thumbnail", show_thumbnail, RUN | {"of": str}),
    change_route("/runs/rename", rename, RUN | {"name": str}), change_route("/runs/delete", delete, RUN),
    change_route("/runs/open", open_folder, RUN))
