"""Measures every family and writes docs/families.md and docs/families.json. Cut it off at any time: cases that were
measured with the same code are not measured again.

    python -m comfyui_personalize.benchmarks.every_family [NAME ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...tools.install_comfyui import ROOT
from ..evidence.comfy_process import start_comfyui
from .page import found, page

WORK = ROOT / ".families"
DOCS = ROOT / "docs"
CODE = ("core", "nodes/bridge", "benchmarks/every_family")
"""What the figures depend on."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="every_family", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="measure these cases alone, again, and show them; writes no docs")
    names = parser.parse_args().names
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_comfyui(WORK / "comfyui")
    if names:
        for name in names:
            print(json.dumps(measured(name, again=True), indent=1))
        return
    from .cases import CASES

    records = []
    for name in CASES:
        records.append(measured(name))
        print(f"{name}: {found(records[-1])}", flush=True)
    write(records, DOCS)


def measured(name: str, again: bool = False) -> dict[str, Any]:
    """The record of a case, from disk where the code is the same."""
    from .cases import CASES
    from .measure import measure

    file, code = WORK / f"{name}.json", code_digest()
    if file.exists() and not again:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["code"] == code:
            return dict(kept["record"])
    record = measure(CASES[name])
    file.write_text(json.dumps({"code": code, "record": record}), encoding="utf-8")
    return record


def write(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Both documents."""
    from comfyui_version import __version__

    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    (folder / "families.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (folder / "families.md").write_text(page(records, __version__), encoding="utf-8")


def code_digest() -> str:
    """A digest of every file that the figures depend on."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for part in CODE for path in (ROOT / part).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
