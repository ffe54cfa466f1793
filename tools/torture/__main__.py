"""Runs the trials and writes the report. Cut it off at any time: trials on disk are not made again.

    python -m comfyui_personalize.tools.torture [--quick] [--only kills soak] [--report]
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

from ..install_comfyui import ROOT
from .record import Record, Result, code_version, missing, total

STATE = ROOT / ".torture"
IN_PROCESS = ("kills", "file_operations", "cancels", "faults", "full_disk", "bit_flips", "hostile_files",
              "two_servers")
ON_SERVERS = ("prompts", "route_requests", "soak", "server_kills")
KINDS = (*IN_PROCESS, *ON_SERVERS)
MOST_SAID = 3
"""Losses of one trial that are shown while it goes on; all are on disk."""
log = logging.getLogger("torture")


def main() -> int:
    """Command line; the exit status is 1 where anything was lost or could not be tried."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="about ten minutes")
    parser.add_argument("--small", action="store_true", help="under a minute, for the tests")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--state", type=Path, default=STATE, help="where trials are kept")
    parser.add_argument("--report", action="store_true", help="only write docs/reliability.md from the full trials")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are stopped, too
    size = "quick" if given.quick else "small" if given.small else "full"
    given.state = given.state.resolve()
    folder = given.state / size / code_version()
    if given.report:
        from .report import write_report

        log.info("wrote %s", write_report(given.state / "full", KINDS))
        return 0
    make(given.only, size, folder)
    print(table(folder, given.only))
    return int(any(is_bad(kind, size, folder) for kind in given.only))


def module_of(kind: str) -> ModuleType:
    """The file of a kind."""
    return importlib.import_module(f"{__package__}.{kind}")


def make(kinds: tuple[str, ...], size: str, folder: Path) -> None:
    """All missing trials: those on servers in a second process, where this one would have others to make."""
    ours, servers = ([kind for kind in kinds if kind in group] for group in (IN_PROCESS, ON_SERVERS))
    if not ours or not servers:
        for kind in kinds:
            make_kind(kind, size, folder)
        return
    options = [] if size == "full" else [f"--{size}"]
    other = subprocess.Popen([sys.executable, "-m", __package__, *options, "--only", *servers,
                              "--state", str(folder.parents[1])], stdout=subprocess.DEVNULL)
    try:
        make(tuple(ours), size, folder)
        other.wait()
    finally:
        other.terminate()
        other.wait()


def make_kind(kind: str, size: str, folder: Path) -> None:
    """The missing trials of a kind, one after the other."""
    module, record = module_of(kind), Record(folder, kind)
    wanted = missing(module.trials(size), record)
    if not wanted:
        return
    start = last = time.monotonic()
    work = folder / "work" / kind
    with module.ready(work) as trial:
        for number, name in enumerate(wanted, 1):
            try:
                result: Result = trial(name)
            except Exception:  # no result is no success: the report says how many trials were made
                log.exception("%s, %s could not be tried", kind, name)
                continue
            record.add(name, result)
            for sentence in result.lost[:MOST_SAID]:
                log.warning("%s, %s: %s", kind, name, sentence)
            if time.monotonic() - last > 20 or number == len(wanted):
                last = time.monotonic()
                log.info("%s: %d of %d trials, %.0f s", kind, number, len(wanted), last - start)
    if not total(record.results()).lost:
        shutil.rmtree(work, ignore_errors=True)


def is_bad(kind: str, size: str, folder: Path) -> bool:
    """Whether a trial of a kind lost anything, or was not made."""
    record = Record(folder, kind)
    return bool(total(record.results()).lost or missing(module_of(kind).trials(size), record))


def table(folder: Path, kinds: tuple[str, ...]) -> str:
    """Attempts and losses of each kind."""
    lines = [f"{'kind':<18}{'attempts':>10}{'lost':>8}   counted"]
    for kind in kinds:
        sums = total(Record(folder, kind).results())
        lines.append(f"{kind:<18}{sums.attempts:>10}{len(sums.lost):>8}   {counted(sums.counts)}")
    return "\n".join(lines)


def counted(counts: Counter[str]) -> str:
    """Counts as text."""
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # ComfyUI's objects complain when the interpreter takes them apart
