"""`make pictures`: runs every workflow on held-out subjects and judges what it draws; docs/pictures.md, .json, .webp.

    python -m comfyui_personalize.tools.pictures --subjects 10
    python -m comfyui_personalize.tools.pictures --subjects 2 --quick --workflows 01 03

Cell by cell and resumable: what is kept under `.pictures` is not run again while graph, photos and model are the same.
The page is of everything that is kept, also of workflows that were not asked for this time. `--judge-only` runs
nothing. Another `--folder` keeps its page to itself.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from ...pocket.autoencoder import Autoencoder, start_from_published
from ...pocket.stages import stack
from ..comfyui_server import Server
from ..install_comfyui import ROOT
from .cells import Cell, Cells
from .judging import Panel, load_judge, reference
from .measures import LOADED, MEASURES, WITHOUT_SUBJECT
from .page import sheet, write_page
from .subjects import Subject, subjects, views_of

log = logging.getLogger("pictures")

FOLDER = ROOT / ".pictures"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--workflows", nargs="+", choices=tuple(MEASURES), default=list(MEASURES))
    parser.add_argument("--quick", action="store_true", help="hardly any steps: does everything run? docs stay")
    parser.add_argument("--judge", type=Path, help="the judge's file, or a state of training")
    parser.add_argument("--judge-only", action="store_true", help="run nothing, judge what is kept")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    return parser.parse_args(arguments)


def cells_of(numbers: Sequence[str], chosen: tuple[Subject, ...]) -> list[Cell]:
    """Every cell, subject by subject, so that a cut-off run has whole subjects; first what others load."""
    needed = {*numbers, *(LOADED[number] for number in numbers if number in LOADED)}
    return [Cell(number, who) for who in chosen for number in dict.fromkeys((*LOADED.values(), *MEASURES))
            if number in needed and (number not in WITHOUT_SUBJECT or who == chosen[0])]


def judged(cells: Cells, wanted: list[Cell], panel: Panel) -> dict[str, Any]:
    """The figures of every cell whose pictures are kept."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    for cell in wanted:
        if cell.workflow in MEASURES and (pictures := cells.pictures(cell)):
            with torch.no_grad():
                figures = MEASURES[cell.workflow](cells.graph(cell), pictures, cell.who, panel)
            results.setdefault(cell.workflow, {})[str(cell.who.number)] = figures
    return results


@torch.no_grad()
def judge_itself(panel: Panel, chosen: tuple[Subject, ...]) -> dict[str, float]:
    """Retrieval of drawings of the subjects where the prompts put them, through the autoencoder: about what is best."""
    shares: list[tuple[float, float]] = []
    autoencoder = start_from_published(Autoencoder()).eval()
    for who in chosen:
        views = autoencoder.through(stack(views_of(who.number)).float() / 255)
        own = reference(panel.judge, who.number)
        shares.append((panel.retrieved(views, own), panel.told_apart(views, own, who.noun)))
    return {f"retrieval{end} of true pictures by the judge": round(sum(values) / len(values), 3)
            for end, values in zip(("", " in its class"), zip(*shares, strict=True), strict=True)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, judge, write."""
    given = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    with torch.no_grad():
        panel = Panel.of(load_judge(given.judge))
    folder = given.folder / ("quick" if given.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    base, chosen = folder / "server", subjects(given.subjects)
    cells, wanted = Cells(folder, base / "input", is_quick=given.quick), cells_of(given.workflows, chosen)
    server = nullcontext() if given.judge_only else Server(base)
    with server:
        for cell in [] if given.judge_only else wanted:
            cells.fill(server.client, cell)  # type: ignore[union-attr]
    results = judged(cells, cells_of(tuple(MEASURES), chosen), panel)
    place = ROOT / "docs" if given.folder == FOLDER and not given.quick else folder
    facts = {"subjects": len(chosen), "pocket files": cells.checkpoint, **judge_itself(panel, chosen)}
    write_page(place, results, facts)
    sheet(cells, chosen, cells.inputs).save(place / "pictures.webp", quality=70)
    log.info("wrote %s", place / "pictures.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
