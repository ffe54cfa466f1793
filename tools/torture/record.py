"""What has been tried: a line of JSON per trial, so that a stopped campaign goes on where it was."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..install_comfyui import ROOT

CODE = ("__init__.py", "core", "nodes", "pocket", "tools", "web", "workflows")
"""What a trial's result depends on; other commits leave the state as it is."""


@dataclass(kw_only=True)
class Result:
    """One trial.

    Attributes:
        attempts: how often something was tried in it.
        lost: a sentence for each attempt that lost, broke or differed; empty where all held.
        counts: what else is counted, added up over trials.
        figures: what is measured, kept per trial.
    """

    attempts: int = 1
    lost: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, Any] = field(default_factory=dict)


class Record:
    """The trials of one kind on disk.

    Args:
        folder: where the records of this code are.
        kind: name of the kind.
    """

    def __init__(self, folder: Path, kind: str):
        self.path = folder / f"{kind}.jsonl"

    def results(self) -> dict[str, Result]:
        """The trials so far, by name; a line that was cut off counts as not tried."""
        found = {}
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            trial = entry.pop("trial")
            found[trial] = Result(**entry | {"counts": Counter(entry["counts"])})
        return found

    def add(self, trial: str, result: Result) -> None:
        """Keep a trial."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"trial": trial, **vars(result)})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@dataclass(frozen=True)
class Total:
    """All trials of a kind together."""

    trials: int
    attempts: int
    lost: list[str]
    counts: Counter[str]
    figures: Mapping[str, dict[str, Any]]


def total(results: Mapping[str, Result]) -> Total:
    """The sum of a kind's trials."""
    counts: Counter[str] = Counter()
    for result in results.values():
        counts.update(result.counts)
    lost = [f"{trial}: {sentence}" for trial, result in results.items() for sentence in result.lost]
    figures = {trial: result.figures for trial, result in results.items() if result.figures}
    return Total(len(results), sum(result.attempts for result in results.values()), lost, counts, figures)


def code_version(root: Path = ROOT) -> str:
    """The last commit that changed the code, with `+changes` where files differ from it."""
    commit = _git(root, "log", "-1", "--format=%h", "--", *CODE)
    changed = _git(root, "status", "--porcelain", "--", *CODE)
    return f"{commit}+changes" if commit and changed else commit or "unknown"


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def missing(trials: Iterable[str], record: Record) -> list[str]:
    """The trials that are still to be made."""
    known = record.results()
    return [trial for trial in trials if trial not in known]
