"""What DCI does, measured on the pocket world: the choice of its defaults, and the paper's figures 6, 9 and 10.

    python -m comfyui_personalize.benchmarks.evidence.dci --sweep [--workers 4] [--report --write]
    python -m comfyui_personalize.benchmarks.evidence.dci --held-out [--workers 4] [--report --write]

`--sweep` tries settings on held-in subjects and writes docs/dci_defaults.md; `--held-out` draws the figures with the
settings that it chose, on subjects that were never looked at, and writes docs/dci_evidence.md. Cut either off at any
time: cells on disk are not made again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .__main__ import DOCS, WORK, on_disk
from .cell_files import Key, Made, cell_path
from .comfy_process import Loaded, load_pocket, start_comfyui
from .on_fleet import add_arguments, make_all, missing

if TYPE_CHECKING:
    from .dci_settings import Setting


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="dci", description=__doc__.split("\n\n")[0])
    parser.add_argument("--sweep", action="store_true", help="settings on held-in subjects, to choose the defaults")
    parser.add_argument("--held-out", action="store_true", help="the figures, on subjects for final figures only")
    parser.add_argument("--subjects", type=int, help="how many of the subjects; default 5 for the sweep, else 8")
    add_arguments(parser)
    parser.add_argument("--measure", action="store_true", help="look again at the pictures of the cells that are there")
    parser.add_argument("--report", action="store_true", help="only write the report of the cells that are there")
    parser.add_argument("--write", action="store_true", help=f"write it into {DOCS.name}/, else into {WORK.name}/")
    given = parser.parse_args()
    if given.sweep == given.held_out:
        parser.error("give either --sweep or --held-out")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_comfyui(WORK / "comfyui")
    run(given)


def run(given: argparse.Namespace) -> None:
    """Make what is missing, then write the report of everything that was asked for."""
    from .bench import HELD_IN, HELD_OUT
    from .dci_settings import ROUNDS, SWEEP

    rounds: Sequence[Sequence[Setting]] = ROUNDS if given.held_out else (SWEEP,)
    settings = [setting for each in rounds for setting in each]
    subjects = HELD_OUT[: given.subjects] if given.held_out else HELD_IN[: given.subjects or 5]
    folder = WORK / "dci" / ("held_out" if given.held_out else "held_in")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(setting.name, number, 0) for setting in settings for number in subjects]
    if given.measure:
        measure_again(wanted, folder, made_by(settings))
    elif not given.report:
        make(rounds, subjects, given, folder)
    write(on_disk(wanted, folder, made_by(settings)), given, DOCS if given.write else folder)


def made_by(settings: Sequence[Setting]) -> Made:
    """What each setting's cells are made from."""
    from .dci_cells import made_of

    named = {setting.name: setting for setting in settings}
    return lambda name: made_of(named[name])


def make(rounds: Sequence[Sequence[Setting]], subjects: Sequence[int], given: argparse.Namespace, folder: Path) -> None:
    """Every cell that is not on disk, round by round, so that a run that is cut off has whole figures."""
    for settings in rounds:
        made = made_by(settings)
        ordered = sorted(settings, key=lambda setting: (setting.method.name, setting.trained))
        open_ones = {number: [setting for setting in ordered if missing([(setting.name, number, 0)], folder, made)]
                     for number in subjects}
        make_all({f"subject {number}": partial(_make_subject, settings=found, number=number, folder=folder)
                  for number, found in open_ones.items() if found}, given, WORK / "comfyui")


def _make_subject(loaded: Loaded, settings: Sequence[Setting], number: int, folder: Path) -> None:
    """A subject's cells, one after the other: they share what was trained."""
    from .dci_cells import make_cell

    for setting in settings:
        make_cell(loaded, setting, number, 0, folder)


def measure_again(wanted: Sequence[Key], folder: Path, made: Made) -> None:
    """New figures from the pictures on disk, after a measure has changed."""
    from .dci_cells import measure_cell

    loaded: Any = load_pocket()
    for key, cell in on_disk(wanted, folder, made).items():
        path = cell_path(folder, *key)
        if path.with_suffix(".npz").exists():
            measure_cell(loaded, path, cell)


def write(cells: Mapping[Key, Mapping[str, Any]], given: argparse.Namespace, folder: Path) -> None:
    """The page of the cells that are there."""
    from .dci_pictures import write_sheet
    from .dci_report import PICTURES, write_defaults, write_evidence

    page = (write_evidence if given.held_out else write_defaults)(cells, folder, command())
    if given.held_out:
        write_sheet(WORK / "dci" / "held_out", folder / PICTURES)
    logging.info("wrote %s", page)


def command() -> str:
    """The command line that makes the report, and the cells where they are missing, as anyone can type it."""
    return " ".join(["python -m comfyui_personalize.benchmarks.evidence.dci",
                     *(word for word in sys.argv[1:] if word != "--report")])


if __name__ == "__main__":
    main()
