"""`docs/pictures.md`, `.json` and a sheet, `.webp`: what was wanted, what was found, and the pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..thumbnails import STORIES, whole
from .cells import Cell, Cells
from .graphs import workflow
from .measures import WANTED, WITHOUT_SUBJECT, is_met
from .subjects import Subject

TILE, LABEL, COLUMNS, SHOWN = 96, 24, 11, 3
"""Of the sheet: pixels, pixels, pictures a row, subjects of each workflow."""
Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""workflow -> subject's number -> figure -> value."""
INTRODUCTION: Final = """# Do the workflows' pictures make their point?

Made by `make pictures`: every workflow with its own settings, on held-out subjects of the pocket model's world, on a
real server; judged by that world's judge, which never saw a generated picture. *Retrieval*: share of pictures that are
more like the subject's photos than like those of any of 47 other held-out subjects; *in its class*: of 47 of the same
noun. *Alignment*: the judge's probability of the prompt's place. *Fidelity*: cosine to the mean of the photos
(in docs/evidence.md: the mean of the cosines to each). Of the subject that comes along, `tests/e2e/test_dci_obeys.py`
asks what DCI does.
"""
REMARK: Final = """*The class alone is the subject* asks whether 'a {noun}' has become the subject. Among strangers of
any noun it is likely to be nearest to the one that shares its noun, trained or not: the row *untrained* is what the
model gave that was loaded. Among strangers of its own noun the question is about the individual."""


def mean_of(results: Results, number: str, figure: str) -> tuple[float, int]:
    """Mean over subjects, and of how many."""
    values = [figures[figure] for figures in results.get(number, {}).values() if figure in figures]
    return (float(np.mean(values)) if values else float("nan")), len(values)


def wanted_table(results: Results) -> str:
    """Every line of acceptance."""
    lines = ["| workflow | figure | wanted | found | subjects | |", "|---|---|---|---|---|---|"]
    for wanted in WANTED:
        value, subjects = mean_of(results, wanted.workflow, wanted.figure)
        found = f"{value:.3f}" if subjects else "not measured"
        verdict = "" if not subjects else "met" if is_met(wanted, value) else "**not met**"
        lines.append(f"| {wanted.workflow} | {wanted.figure} | {wanted.direction} {wanted.limit:g} | {found} | "
                     f"{subjects} | {verdict} |")
    return "\n".join(lines) + "\n"


def figures_table(results: Results) -> str:
    """Every figure's mean."""
    lines = ["| workflow | figure | mean | subjects |", "|---|---|---|---|"]
    for number in sorted(results):
        for figure in dict.fromkeys(name for figures in results[number].values() for name in figures):
            value, subjects = mean_of(results, number, figure)
            lines.append(f"| {workflow(number)[0]} | {figure} | {value:.3f} | {subjects} |")
    return "\n".join(lines) + "\n"


def sheet(cells: Cells, subjects: tuple[Subject, ...], photos: Path) -> Image.Image:
    """One row per workflow and subject: a photo, then pictures of every Save Image node in turn."""
    rows: list[tuple[str, list[Image.Image]]] = []
    for number in sorted(STORIES):
        for who in subjects[:1] if number in WITHOUT_SUBJECT else subjects[:SHOWN]:
            pictures = cells.pictures(Cell(number, who))
            shown = [images[i] for i in range(4) for images in pictures.values() if i < len(images)]
            if shown:
                photo = photos / f"pictures_{who.number}_1.png"
                first = [] if number in WITHOUT_SUBJECT else [Image.open(photo).convert("RGB")]
                rows.append((f"{workflow(number)[0]}: {', '.join(pictures)}", first + shown))
    page = Image.new("RGB", (COLUMNS * TILE, max(1, len(rows)) * (TILE + LABEL)), "white")
    ink = ImageDraw.Draw(page)
    for place, (label, images) in enumerate(rows):
        top = place * (TILE + LABEL)
        ink.text((4, top + 4), label, "black", ImageFont.load_default(15))
        left = 0
        for image in images:
            width = TILE * max(1, round(image.width / image.height))
            if left + width <= page.width:
                page.paste(whole(image, (width, TILE)), (left, top + LABEL))
                left += width
    return page


def write_page(folder: Path, results: Results, facts: dict[str, Any]) -> None:
    """Writes `pictures.json` and `pictures.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"facts": facts, "results": results}
    (folder / "pictures.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    told = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    (folder / "pictures.md").write_text(
        f"{INTRODUCTION}\n{told}\n\n## Wanted and found\n\n{wanted_table(results)}\n{REMARK}\n\n## Every figure\n\n"
        f"{figures_table(results)}\n![pictures](pictures.webp)\n")
