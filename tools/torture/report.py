"""`docs/reliability.md` from the trials on disk."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..install_comfyui import ROOT
from .record import Record, Total, total

PAGE = ROOT / "docs" / "reliability.md"
SHOWN = 20
"""Losses of one kind that are written out."""
HEAD = """# Reliability

What happens to runs that are killed, disks that are full, files that rot and prompts that nobody would write. Made by
`make torture` (`make torture TORTURE=--quick` in about ten minutes) at commit
{commit}, on {platform}.

An attempt is one kill, one death, one cancel, one fault, one disk, one flipped bit, one file, one meeting, one prompt,
one request or one job. Lost is an attempt after which anything was gone, torn, different, raw or left behind. Bit for
bit means that every file that a run leaves was compared with those of a run that nobody disturbed.

| | attempts | lost |
|---|---:|---:|
"""
HOW = """
## How

All but the prompts, the soak and the kills of a server run the real nodes in processes that are forked from one that
has ComfyUI loaded, on a random model with Stable Diffusion's structure (0.6 M parameters), so that a run takes a second
and can be killed hundreds of times. Prompts, soak and kills of a server use `main.py` over HTTP, with the gallery's
workflows on the same model. Moments and changes come from fixed seeds; a moment in wall time hits another instruction
each time. Python's audit hook and a comparison of folder trees watch what servers write, connect to and start.
"""


def write_report(states: Path, kinds: Sequence[str]) -> Path:
    """Write the page from the newest version's trials; returns its path."""
    versions = [folder for folder in states.iterdir() if list(folder.glob("*.jsonl"))]
    newest = max(versions, key=lambda folder: max(path.stat().st_mtime for path in folder.glob("*.jsonl")))
    PAGE.write_text(page(newest, kinds), encoding="utf-8")
    return PAGE


def page(folder: Path, kinds: Sequence[str]) -> str:
    """The page of one version's trials."""
    modules = {kind: import_module(f"{__package__}.{kind}") for kind in kinds}
    totals = {kind: total(Record(folder, kind).results()) for kind in kinds}
    text = HEAD.format(commit=folder.name, platform=describe_platform())
    text += "".join(f"| {modules[kind].TITLE} | {_number(sums.attempts)} | {_number(len(sums.lost))} |\n"
                    for kind, sums in totals.items())
    return text + "".join(section(modules[kind], sums) for kind, sums in totals.items()) + HOW


def section(module: Any, sums: Total) -> str:
    """What was tried of a kind, what was counted and what was lost."""
    planned = len(module.trials("full"))
    text = f"\n## {module.TITLE}\n\n{module.CLAIM}\n\n"
    if sums.trials < planned:
        text += f"{sums.trials} of {planned} trials were made.\n\n"
    if sums.counts:
        text += "".join(f"- {name}: {_number(number)}\n" for name, number in sorted(sums.counts.items())) + "\n"
    text += "".join(soak_lines(figures) for figures in sums.figures.values() if "rss" in figures)
    if sums.lost:
        text += f"Lost ({_number(len(sums.lost))}):\n\n"
        text += "".join(f"- `{_plain(sentence)}`\n" for sentence in sums.lost[:SHOWN])
        text += f"- and {len(sums.lost) - SHOWN} more\n" if len(sums.lost) > SHOWN else ""
    return text.rstrip() + "\n"


def soak_lines(figures: dict[str, Any]) -> str:
    """Memory over the jobs."""
    sizes, warm = figures["rss"], figures["warm"]
    marks = [number for number in (1, 10, warm, 100, 150, 200, 250, len(sizes)) if number <= len(sizes)]
    table = "| job | resident memory, MiB |\n|---:|---:|\n"
    table += "".join(f"| {number} | {sizes[number - 1] / 2**20:,.1f} |\n" for number in marks)
    return (f"{len(sizes)} jobs in {figures['seconds'] / 60:.0f} minutes. From job {warm} to job {len(sizes)}: "
            f"{figures['growth']:+.2%} (medians of five jobs); a line through them rises by "
            f"{figures['bytes per job'] / 1024:+.1f} KiB per job.\n\n{table}\n")


def describe_platform() -> str:
    """System, Python and torch."""
    from importlib.metadata import version

    return (f"{platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}, "
            f"torch {version('torch')}, CPU")


def _number(value: int) -> str:
    return f"{value:,}"


def _plain(sentence: str) -> str:
    """One line that shows no path of the machine that it was found on."""
    plain = " ".join(sentence.replace("`", "'").replace(str(ROOT), "...").split())
    return plain.encode("ascii", "backslashreplace").decode()[:300]
