"""The report: Markdown tables and charts, and one self-contained HTML page with the same and the sample sheets."""

from __future__ import annotations

import base64
import html
import io
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure

from .claims import AREA, CLAIMS, UNMEASURED, Claim
from .intervals import Estimate, estimate, frontier_area, verdict
from .methods import METHODS

matplotlib.use("Agg")
Cells = Mapping[tuple[str, int, int], Mapping[str, Any]]
"""(method, subject, seed) to the cell that `cells.make_cell` made."""
MEASURES = ("fidelity", "alignment", AREA, "noun", "copying", "drift", "diversity")
MARKERS = "osD^v<>PX*hd"
STYLE = ("body{font-family:sans-serif;max-width:70em;margin:2em auto}td,th{border:1px solid #999;padding:.2em .5em}"
         "table{border-collapse:collapse;font-size:.85em}img{max-width:100%}")


def value(cell: Mapping[str, Any], measure: str) -> float:
    """A measure at the last checkpoint, or the area under the curve of all of them."""
    points = cell["checkpoints"]
    if measure == AREA:
        return frontier_area([(point["alignment"], point["fidelity"]) for point in points])
    return float(points[-1][measure])


def of_method(cells: Cells, method: str) -> list[Mapping[str, Any]]:
    """The cells of a method, by subject and seed."""
    return [cell for (name, *_), cell in sorted(cells.items()) if name == method]


def paired(cells: Cells, claim: Claim) -> Estimate:
    """The claim's difference over the subjects and seeds that both methods have."""
    first, second = ({key[1:]: value(cell, claim.measure) for key, cell in cells.items() if key[0] == method}
                     for method in (claim.first, claim.second))
    return estimate([first[unit] - second[unit] for unit in sorted(first.keys() & second.keys())])


def methods_table(cells: Cells) -> str:
    """One row per method, one column per measure."""
    present = [method for method in METHODS.values() if of_method(cells, method.name)]
    rows = ["| method | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for method in present:
        own = of_method(cells, method.name)
        rows.append(f"| {method.title} | "
                    + " | ".join(str(estimate([value(cell, name) for cell in own])) for name in MEASURES) + " |")
    return "\n".join(rows)


def claims_table(cells: Cells) -> str:
    """One row per claim that both of its methods were run for."""
    rows = ["| claim | source | measure | expected | measured difference | verdict |", "|---|---|---|---|---|---|"]
    for claim in CLAIMS:
        difference = paired(cells, claim)
        if difference.count:
            expected = "above 0" if claim.expected > 0 else "below 0"
            rows.append(f"| {claim.text} | {claim.source} | {claim.measure} | {expected} | {difference} "
                        f"| {verdict(difference, claim.expected)} |")
    return "\n".join(rows)


def curves(cells: Cells) -> bytes:
    """Fidelity against alignment over the checkpoints of every method, as PNG; legible in grey."""
    figure = Figure(figsize=(8, 6), dpi=110)
    axes = figure.subplots()
    present = [method for method in METHODS.values() if of_method(cells, method.name)]
    for number, method in enumerate(present):
        own = of_method(cells, method.name)
        steps = range(min(len(cell["checkpoints"]) for cell in own))
        points = [(mean_at(own, step, "alignment"), mean_at(own, step, "fidelity")) for step in steps]
        axes.plot(*zip(*points, strict=True), marker=MARKERS[number % len(MARKERS)], label=method.title,
                  linestyle=("-", "--", ":")[number % 3], color=str(0.1 + 0.6 * number / max(1, len(present) - 1)))
    axes.set_xlabel("alignment (probability of what the prompt asks for)")
    axes.set_ylabel("fidelity (cosine to the subject's photos)")
    axes.legend(fontsize=7)
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def mean_at(cells: Sequence[Mapping[str, Any]], checkpoint: int, measure: str) -> float:
    return sum(cell["checkpoints"][checkpoint][measure] for cell in cells) / len(cells)


def write_report(cells: Cells, folder: Path, settings: Mapping[str, object], command: str,
                 sheets: Sequence[Path] = ()) -> tuple[Path, Path]:
    """`evidence.md`, `evidence.png` and `evidence.html` in a folder; returns the first and the last."""
    folder.mkdir(parents=True, exist_ok=True)
    chart = curves(cells)
    (folder / "evidence.png").write_bytes(chart)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    parts = {
        "Settings": "\n".join(f"- {name}: {text}" for name, text in {**settings, "versions": versions}.items()),
        "Methods": methods_table(cells),
        "Claims": claims_table(cells),
        "Not measured": "\n".join(f"- {text}" for text in UNMEASURED),
    }
    markdown, page = folder / "evidence.md", folder / "evidence.html"
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    head = f"{INTRODUCTION}\nMade by `{command}`.\n\n![curves](evidence.png)"
    markdown.write_text(f"{head}\n\n{body}\n", encoding="utf-8")
    page.write_text(as_html(parts, chart, command, sheets), encoding="utf-8")
    return markdown, page


INTRODUCTION = """# Evidence

The papers' claims on the pocket model and its world, where truth is known. What is measured, and how, stands in
`benchmarks/evidence/measures.py`. Figures are means over subjects and seeds with 95 % bootstrap intervals; a claim is
*supported* or *contradicted* where the interval of its paired difference lies on one side of zero, *undecided* where it
does not. A small model of drawings is no Stable Diffusion: a verdict here says what these methods do **here**.
"""


def as_html(parts: Mapping[str, str], chart: bytes, command: str, sheets: Sequence[Path]) -> str:
    """One page that needs no other file."""
    sections = [f"<h2>{html.escape(title)}</h2>{table_to_html(text)}" for title, text in parts.items()]
    pictures = [f"<figure><img src='data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}'>"
                f"<figcaption>{html.escape(path.stem)}: photos, 'a V noun', then the prompts</figcaption></figure>"
                for path in sheets]
    curve = f"<img src='data:image/png;base64,{base64.b64encode(chart).decode()}' alt='curves'>"
    return (f"<!doctype html><meta charset='utf-8'><title>Evidence</title><style>{STYLE}</style><h1>Evidence</h1>"
            f"<p>Made by <code>{html.escape(command)}</code>.</p>{curve}{''.join(sections)}{''.join(pictures)}")


def table_to_html(text: str) -> str:
    """A Markdown table or list as HTML; nothing else is needed."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("|"):
        return "<ul>" + "".join(f"<li>{html.escape(line.removeprefix('- '))}</li>" for line in lines) + "</ul>"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f"<table><tr>{head}</tr>{body}</table>"
