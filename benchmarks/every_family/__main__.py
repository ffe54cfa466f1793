"""Measures every family and writes docs/families.md and docs/families.json. Cut it off at any time: cases that were
measured with the same code are not measured again.

    python -m comfyui_personalize.benchmarks.every_family [NAME ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from ...fleet.client import GraphFailed, GraphRefused
from ...tools.install_comfyui import ROOT
from ..evidence.comfy_process import start_comfyui
from .page import found, page

WORK = ROOT / ".families"
DOCS = ROOT / "docs"
CODE = ("core", "nodes/bridge", "benchmarks/every_family")
"""What the figures depend on."""
CODE_OF_SERVER = ("core", "nodes", "fleet", "tools", "benchmarks/every_family")
Record = dict[str, Any]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="every_family", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="measure these cases alone, again, and show them; writes no docs")
    names = parser.parse_args().names
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_comfyui(WORK / "comfyui")
    from .cases import CASES

    records = []
    with ExitStack() as stack:
        travel = Travels(stack)
        for name in names or CASES:
            records.append(measured(name, travel, again=bool(names)))
            print(json.dumps(records[-1], indent=1) if names else f"{name}: {found(records[-1])}", flush=True)
    if not names:
        write(records, DOCS)


class Travels:
    """Families through one server, which starts when the first of them needs it.

    Args:
        stack: ends the server.
    """

    def __init__(self, stack: ExitStack):
        self._stack = stack

    @cached_property
    def _server(self) -> tuple[Any, dict[str, Any]]:
        from .server.journey import families_server

        shutil.rmtree(WORK / "server", ignore_errors=True)  # nothing is found again of an earlier run
        server = self._stack.enter_context(families_server(WORK / "server"))
        return server, server.client.object_info()

    def __call__(self, name: str) -> Record:
        """The figures of a family, or how the server's answer fails."""
        from .server.journey import travel

        try:
            return travel(name, *self._server)
        except (GraphFailed, GraphRefused) as error:
            return {"fails": " ".join(str(error).split())[:300]}


def measured(name: str, travel: Callable[[str], Record], again: bool = False) -> Record:
    """The record of a case, from disk where the code is the same; `server` where the family goes through it."""
    from .cases import CASES
    from .measure import measure
    from .server.forms import FORMS

    record = kept(WORK / f"{name}.json", CODE, lambda: measure(CASES[name]), again)
    if name not in FORMS:
        return record
    return record | {"server": kept(WORK / f"{name}_server.json", CODE_OF_SERVER, lambda: travel(name), again)}


def kept(file: Path, parts: Sequence[str], make: Callable[[], Record], again: bool) -> Record:
    """What is in the file where the code is the same, else what is made now."""
    code = code_digest(parts)
    if file.exists() and not again:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["code"] == code:
            return dict(found["record"])
    record = make()
    file.write_text(json.dumps({"code": code, "record": record}), encoding="utf-8")
    return record


def write(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Both documents."""
    from comfyui_version import __version__

    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    (folder / "families.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (folder / "families.md").write_text(page(records, __version__), encoding="utf-8")


def code_digest(parts: Sequence[str]) -> str:
    """A digest of every file in these folders."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for part in parts for path in (ROOT / part).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
