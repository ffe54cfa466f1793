"""Thousands of requests to the extension's own routes that nobody's editor would send, fifty per trial."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import torch

from ...core.store.run_list import list_runs, run_id
from ...core.store.run_notes import keep_thumbnail, note_run
from ...core.store.runs import open_run, run_key
from ..install_comfyui import ROOT, comfyui_directory
from .mutations import NUMBERS, OTHERS, TEXTS
from .prompts import COMFYUI_WRITES, IGNORED
from .record import Result
from .servers import EXPANDED, WatchedServer, tree

TITLE = "Requests to our own routes"
CLAIM = ("No request ends the server, gets an error of the server (5xx), starts a program, or changes a run unless it "
         "comes from the server's own page, as JSON, with an id.")
BATCH = 50
TRIALS = {"full": 60, "quick": 4, "small": 0}
PREFIXES = ("/personalize", "/api/personalize")
READS = ("/runs", "/runs/{}", "/runs/{}/graph", "/runs/{}/thumbnail?of=1", "/training")
CHANGES = ("/runs/rename", "/runs/delete", "/runs/open", "/training/draw", "/training/pause")
METHODS = ("GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
STRANGERS = ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
             {"Origin": "http://127.0.0.1:1"}, {"Content-Type": "text/plain"},
             {"Content-Type": "application/x-www-form-urlencoded"})
"""Headers of whoever is no page of this server. No address that cannot be read: ComfyUI itself fails on one."""
ANSWER = 15.0
"""Seconds in which HTTP must have answered."""


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def trials(size: str) -> list[str]:
    """Fifty requests each."""
    return [f"{number * BATCH}" for number in range(TRIALS[size])]


def make_request(number: int, runs: list[str]) -> Asked:
    """The n-th request of a seed: wrong in one way at least, wherever it could change something.

    Args:
        runs: ids of runs that are there.
    """
    chance = random.Random(f"request {number}")
    method, prefix = chance.choice(METHODS), chance.choice(PREFIXES)
    if method != "POST" or chance.random() < 0.2:
        path = chance.choice((*READS, *CHANGES)).format(quote(_text(chance, runs), safe="", errors="replace"))
        if chance.random() < 0.3:
            path += f"{'&' if '?' in path else '?'}{quote(_text(chance, []), errors='replace')}=1"
        return Asked(method, prefix + path, _json(chance, runs) if method in ("PUT", "PATCH", "DELETE") else b"",
                     {"Content-Type": "application/json"})
    body: dict[str, Any] = {"run": chance.choice(runs)}
    path, headers = chance.choice(CHANGES), {"Content-Type": "application/json"}
    if path == "/runs/rename":
        body["name"] = "renamed"
    if chance.random() < 0.4:
        return Asked("POST", prefix + path, json.dumps(body).encode(), headers | chance.choice(STRANGERS))
    if chance.random() < 0.3:
        return Asked("POST", prefix + path, _json(chance, []), headers)
    wrong = chance.choice((*body, "path", "__class__"))
    body[wrong] = "../x" if wrong == "name" else _value(chance)
    return Asked("POST", prefix + path, json.dumps(body).encode(), headers)


def _text(chance: random.Random, runs: list[str]) -> str:
    return chance.choice(runs) if runs and chance.random() < 0.4 else str(chance.choice(TEXTS))[:2000]


def _value(chance: random.Random) -> Any:
    found = chance.choice((*TEXTS, *OTHERS, *NUMBERS))
    return found if not isinstance(found, str) else found[:5000]


def _json(chance: random.Random, runs: list[str]) -> bytes:
    """A body: often no object, never with an id where none is given."""
    found = _value(chance)
    body = json.dumps(chance.choice((found, {"run": _text(chance, runs)}, {"run": found}))).encode()
    return chance.choice((body, body[:-1], b"", b"\xff\xfe", b"[" * 20_000, body + b" " * 200_000))


def make_runs(root: Path) -> list[str]:
    """Three runs with notes; their ids."""
    for number in range(3):
        run = open_run(root, f"run {number}", run_key({"number": number}))
        run.save_adapter(1, {"x": torch.zeros(2)}, {})
        note_run(run.folder, "tiny.safetensors", "", {"prompt": {}})
        keep_thumbnail(run.folder, b"jpeg")
    return [run_id(run) for run in list_runs(root)]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """Fifty requests to one server."""
    server = WatchedServer(work / "base")
    root = server.base / "output" / "personalize"
    runs = make_runs(root)
    outside = {"checkout": ROOT, "comfyui": comfyui_directory(), "beside": work}
    skipped = (*IGNORED, "__pycache__", "base", EXPANDED.name, *COMFYUI_WRITES)
    try:
        server.start()
        told: set[str] = set()

        def trial(identity: str) -> Result:
            if not server.is_alive:
                server.start()
            result, before = Result(attempts=0), (_files(root), tree(outside, skipped))
            for number in range(int(identity), int(identity) + BATCH):
                asked = make_request(number, runs)
                result.attempts += 1
                try:
                    judge(asked, *ask(server.client.address, asked), number, result)
                except (OSError, HTTPException) as error:
                    said = f"request {number} ({asked.method} {ascii(asked.path[:80])})"
                    result.lost.append(f"{said}: {type(error).__name__} {error}")
            after = (_files(root), tree(outside, skipped))
            result.lost += [f"requests {identity} and on changed {what}" for what, one, other
                            in zip(("a run", "files outside"), before, after, strict=True) if one != other]
            result.lost += [f"left its folders: {line}" for line in server.leaks() if line not in told]
            told.update(server.leaks())
            return result

        yield trial
    finally:
        server.stop()


def ask(address: str, asked: Asked) -> tuple[int, bytes]:
    """Status and body of the answer."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=ANSWER)
    try:
        connection.request(asked.method, asked.path, asked.body, asked.headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def judge(asked: Asked, status: int, body: bytes, number: int, result: Result) -> None:
    """Count an answer; what should not be is lost."""
    said = f"request {number} ({asked.method} {ascii(asked.path[:80])} {ascii(asked.body[:80])})"
    result.counts[f"HTTP {status}"] += 1
    if status >= 500:
        result.lost.append(f"{said}: HTTP {status} {ascii(body[:200])}")
    if status == 200 and asked.method == "POST":
        result.lost.append(f"{said}: was done")
    if status == 400 and asked.method == "POST" and "message" not in json.loads(body).get("error", {}):
        result.lost.append(f"{said}: refused without a sentence")


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """The runs' files; locks are tried by whoever lists."""
    return {name: found for name, found in tree({"runs": root}).items() if "/.locks/" not in name}
