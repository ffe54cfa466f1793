"""Runs the bench and writes the report. Cut it off at any time: cells on disk are not made again.

    python -m comfyui_personalize.benchmarks.evidence [--quick] [--held-out] [--methods lora ico] [--workers 4]
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

from ...tools.install_comfyui import ROOT
from .cell_files import Key, Made, cell_path, read_cell
from .comfy_process import start_comfyui
from .on_fleet import add_arguments, make_all, missing

if TYPE_CHECKING:
    from .cells import Plan
    from .methods import Method

WORK = ROOT / ".evidence"
DOCS = ROOT / "docs"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="evidence", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 subjects, the main methods, the last checkpoint")
    parser.add_argument("--held-out", action="store_true", help="the subjects for final figures, never for tuning")
    parser.add_argument("--methods", nargs="+", help="names in methods.py; default all")
    parser.add_argument("--subjects", type=int, help="how many of the subjects")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds per subject")
    add_arguments(parser)
    parser.add_argument("--tune", action="store_true", help="try settings of the methods on held-in subjects instead")
    parser.add_argument("--measure", action="store_true", help="look again at the pictures of the cells that are there")
    parser.add_argument("--clip", default="pocket", help="folder of a transformers CLIP for CLIP-I, CLIP-T and KID")
    parser.add_argument("--dino", help="folder of a transformers DINO, also for KID")
    parser.add_argument("--lpips", help="torchvision's weights of AlexNet, VGG16 or SqueezeNet 1.1 as a file")
    parser.add_argument("--pairs", nargs="+", help="also write a blind page that compares these methods' pictures")
    parser.add_argument("--report", action="store_true", help="only write the report of the cells that are there")
    parser.add_argument("--write", action="store_true", help=f"write it into {DOCS.name}/, else into {WORK.name}/")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_comfyui(WORK / "comfyui")
    if given.tune:
        tune(given)
    else:
        run(given)


def tune(given: argparse.Namespace) -> None:
    """Make the cells of `tuning.TRIED`, then write their table."""
    from .bench import HELD_IN
    from .tuning import HEAD, TRIED, tuning_table

    folder = WORK / "held_in" / "tuning" / ("quick" if given.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    subjects = HELD_IN[: given.subjects or 2]
    wanted = [(name, number, 0) for number in subjects for name in given.methods or TRIED]
    if not given.report:
        make(wanted, given, folder, TRIED)
    cells = on_disk(wanted, folder, made_by(given, TRIED))
    page = (DOCS if given.write else folder) / "evidence_settings.md"
    page.write_text(f"{HEAD.format(command=command(), subjects=len(subjects))}\n{tuning_table(cells)}\n",
                    encoding="utf-8")


def run(given: argparse.Namespace) -> None:
    """Make what is missing, then write the report of everything that was asked for."""
    from .bench import HELD_IN, HELD_OUT
    from .field import load_encoders
    from .methods import METHODS, QUICK

    encoders = load_encoders(given.clip, given.dino, given.lpips)  # a wrong path is told before hours of training
    folder = WORK / ("held_out" if given.held_out else "held_in") / ("quick" if given.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    subjects = (HELD_OUT if given.held_out else HELD_IN)[: given.subjects or (2 if given.quick else None)]
    methods = given.methods or (QUICK if given.quick else list(METHODS))
    wanted = [(name, number, seed) for seed in range(given.seeds) for number in subjects for name in methods]
    if given.measure:
        measure_again(wanted, given, folder)
    elif not given.report:
        make(wanted, given, folder, METHODS)
    cells = on_disk(wanted, folder, made_by(given, METHODS))
    if not cells:
        return
    from .report import gather, write_report

    sheets = sorted(folder.glob(f"*-{subjects[0]}-0.jpg"))
    settings = {"subjects": f"{len(subjects)} {'held-out' if given.held_out else 'held-in'}", "seeds": given.seeds,
                "photos": "5 (one-shot: 1)", "prompts": 25,
                "checkpoints": "the last alone, so that area is alignment times fidelity" if given.quick else
                "at half of the steps and at the end",
                "cells": f"{len(cells)} of {len(wanted)}"}
    extras = gather(cells, folder, WORK, encoders)
    markdown, page = write_report(cells, DOCS if given.write else folder, settings, command(), sheets, extras)
    logging.info("wrote %s and %s", markdown, page)
    if given.pairs:
        from .pairs import write_pairs

        logging.info("wrote %s", write_pairs(folder, given.pairs, subjects[0], folder / "evidence_pairs.html"))


def on_disk(wanted: Sequence[Key], folder: Path, made: Made) -> dict[Key, dict[str, Any]]:
    """The cells that were made before, as they are made today."""
    return {key: cell for key in wanted if (cell := read_cell(cell_path(folder, *key), made(key[0])))}


def plan_of(given: argparse.Namespace) -> Plan:
    """How much is done."""
    from .cells import Plan

    return Plan(checkpoints=(1.0,)) if given.quick else Plan()


def made_by(given: argparse.Namespace, methods: Mapping[str, Method]) -> Made:
    """What each method's cells are made from."""
    from .cells import made_of

    return lambda name: made_of(methods[name], plan_of(given))


def make(wanted: list[Key], given: argparse.Namespace, folder: Path, methods: Mapping[str, Method]) -> None:
    """Every cell that is not on disk."""
    from .cells import make_cell

    make_all({cell: partial(make_cell, method=methods[name], number=number, seed=seed, plan=plan_of(given),
                            folder=folder)
              for cell, (name, number, seed) in missing(wanted, folder, made_by(given, methods)).items()},
             given, WORK / "comfyui")


def measure_again(wanted: list[Key], given: argparse.Namespace, folder: Path) -> None:
    """New figures from the pictures on disk, after a measure has changed."""
    from .cells import measure_cell
    from .methods import METHODS

    for key, cell in on_disk(wanted, folder, made_by(given, METHODS)).items():
        path = cell_path(folder, *key)
        if path.with_suffix(".npz").exists():
            measure_cell(path, cell, METHODS[key[0]], plan_of(given).prompts)


def command() -> str:
    """The command line that made the report, as anyone can type it."""
    return " ".join(["python -m comfyui_personalize.benchmarks.evidence", *sys.argv[1:]])


if __name__ == "__main__":
    main()
