"""The report: Markdown tables and charts, a CSV of every checkpoint, and one self-contained HTML page with the same."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy
import scipy
import torch

from ...tools.install_comfyui import COMFYUI_VERSION, ROOT
from . import charts
from .claims import UNMEASURED
from .field import Encoders, field_of_cells
from .intervals import Estimate
from .judge_card import card_table, judge_card
from .page import as_page
from .samples import sample_sheet
from .tables import (
    ACCURACIES,
    FEWER,
    MEASURES,
    Cells,
    Finding,
    Key,
    as_csv,
    claims_table,
    correct,
    field_table,
    findings,
    methods_table,
    not_run,
    present,
    reasons,
    settings_table,
    upscaler_findings,
)

__all__ = ["MEASURES", "Cells", "Estimate", "Extras", "gather", "write_report"]
MASKS = ROOT / "benchmarks" / "results" / "dci_mask_iou.md"
MASK_ROWS = ("| concept map m^c, finest scale", "| *mean mask of the class noun*", "| *exact mask through a grid")
ELSEWHERE = {
    "docs/dci_evidence.md": "DCI: its curves over omega and over training, its ablations, its auxiliary noun",
    "docs/evidence_settings.md": "how each method's rate and steps were chosen, on held-in subjects",
    "benchmarks/results/super_resolution.md": "personalized super-resolution, all figures",
    "benchmarks/results/dci_mask_iou.md": "masks of 'V noun' against the world's exact masks",
    "benchmarks/results/two_objects.md": "two objects in one prompt",
}
INTRODUCTION = """# Evidence

The papers' claims on the pocket model and its world, where truth is known. What is measured, and how, stands in
`benchmarks/evidence/measures.py`. Figures are means over subjects with 95 % bootstrap intervals (a subject is a unit;
its seeds are averaged first; the percentiles are widened for few units). With 5 or 6 subjects such an interval misses a
true zero more often than it says: in 7 % of cases where differences are normal, in 12 to 20 % where they are skewed.
Therefore a claim is *supported* or *contradicted* only where its interval lies on one side of zero **and** the paired
t-test's p, corrected by Holm for all claims of this page, is at most 0.05; all else is *undecided*. The t-test takes
differences as normal; an exact test cannot go below p = 0.06 with five subjects. A small model of drawings is no Stable
Diffusion: a verdict here says what these methods do **here**."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a report can have beside the cells' figures.

    Attributes:
        card: `judge_card.judge_card`.
        of_field: the field's measures of every cell.
        encoders: their names.
        samples: a JPEG by subject.
    """

    card: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    of_field: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    encoders: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[int, bytes] = field(default_factory=dict)


def gather(cells: Cells, folder: Path, cache: Path, encoders: Encoders) -> Extras:
    """Extras of the cells whose pictures lie in a folder.

    Args:
        cells: those of the report.
        folder: where `cells.make_cell` left them.
        cache: where the judge's card is kept.
        encoders: `field.load_encoders`.
    """
    names = [method.name for method in present(cells)]
    numbers = [number for _, number, _ in sorted(cells)]
    subject = max(sorted(set(numbers)), key=numbers.count)  # the first of those that most methods have
    sheet = sample_sheet(folder, names, subject)
    return Extras(card=judge_card(cache), of_field=field_of_cells(sorted(cells), folder, encoders),
                  encoders=encoders.names, samples={subject: sheet} if sheet else {})


def write_report(cells: Cells, folder: Path, settings: Mapping[str, object], command: str,
                 sheets: Sequence[Path] = (), extras: Extras | None = None) -> tuple[Path, Path]:
    """`evidence.md` with its pictures, `evidence.csv` and `evidence.html` in a folder; returns the first and the last.

    Args:
        cells: `cells.make_cell`'s.
        folder: where to write.
        settings: name to text, for the section of that name.
        command: what made the report.
        sheets: JPEGs that only the page shows: all pictures of a cell.
        extras: what `gather` gives; without it the report has fewer sections.
    """
    folder.mkdir(parents=True, exist_ok=True)
    extras, found = extras or Extras(), correct([*findings(cells), *upscaler_findings()])
    pictures = {"evidence.png": charts.curves(cells), "evidence_bars.png": charts.bars(cells),
                "evidence_claims.png": charts.claims_chart(found)}
    pictures |= {f"evidence_samples_{number}.jpg": sheet for number, sheet in extras.samples.items()}
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    (folder / "evidence.csv").write_text(as_csv(cells), encoding="utf-8")
    sections = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts(cells, found, settings, extras).items())
    body = f"{INTRODUCTION}\n\nMade by `{command}`.\n\n{sections}\n"
    markdown, page = folder / "evidence.md", folder / "evidence.html"
    markdown.write_text(body, encoding="utf-8")
    whole = {path.name: path.read_bytes() for path in sheets}
    shown = "\n\n".join(f"{Path(name).stem}: photos, 'a V noun', then the prompts in order\n\n![{name}]({name})"
                        for name in whole)
    appendix = f"\n\n## All pictures of one subject\n\n{shown}" if whole else ""
    page.write_text(as_page("Evidence", body + appendix, pictures | whole), encoding="utf-8")
    return markdown, page


def parts(cells: Cells, found: Sequence[Finding], settings: Mapping[str, object], extras: Extras) -> dict[str, str]:
    """The sections by title, those that there is something for."""
    every = {
        "Claims": f"{claims_table(found)}\n\n![claims](evidence_claims.png)",
        "How claims fail, and what verdicts hide": reasons(found),
        "Not measured": unmeasured(cells),
        "Curves": "Checkpoints of each method: hollow on the way, filled at the end; crosses are intervals, dotted "
                  f"lines and {FEWER} methods that lack subjects which others have. Prompts that ask for another "
                  "colour pull the axes apart: what obeys is less like the photos.\n\n![curves](evidence.png)",
        "Methods": f"{methods_table(cells)}\n\n{fewer_note(cells)}![bars](evidence_bars.png)",
        "Accuracies": f"Share of pictures in which the judge finds what was asked for.\n\n"
                      f"{methods_table(cells, ACCURACIES)}" if has_any(cells, ACCURACIES) else "",
        "The field's measures": field_section(cells, extras),
        "Samples": samples_section(extras),
        "Masks": mask_section(),
        "The judge": f"Accuracy on held-out scenes and subjects that neither its training nor the bench uses.\n\n"
                     f"{card_table(extras.card)}" if extras.card else "",
        "Settings": settings_section(cells, settings),
        "Elsewhere": "\n".join(f"- [{Path(path).name}](../{path}): {text}" for path, text in ELSEWHERE.items()
                               if (ROOT / path).exists()),
    }
    return {title: text for title, text in every.items() if text}


def unmeasured(cells: Cells) -> str:
    """What no cell can say, then what these cells do not."""
    missing = [f"- not in these cells: {claim.text} (`{claim.first}` against `{claim.second}`)"
               for claim in not_run(cells)]
    return "\n".join([*(f"- {text}" for text in UNMEASURED), *missing])


def has_any(cells: Cells, measures: Sequence[str]) -> bool:
    """Whether some cell has one of the measures."""
    return any(name in point for cell in cells.values() for point in cell["checkpoints"] for name in measures)


def fewer_note(cells: Cells) -> str:
    """What the mark means, where it is there."""
    is_marked = FEWER in methods_table(cells)
    return (f"{FEWER} lacks subjects that others have: such a mean is over other subjects than the rest of its column; "
            "claims are paired and use the subjects that both methods have.\n\n" if is_marked else "")


def field_section(cells: Cells, extras: Extras) -> str:
    """CLIP-I and its like, with what they are over."""
    if not extras.of_field:
        return ""
    names = ", ".join(f"{kind} is `{name}`" for kind, name in extras.encoders.items())
    return (f"Last checkpoint; {names}. CLIP-T reads prompts without the identifier. KID is over DINO, or else over "
            "CLIP, of 8 pictures of 'a V noun' and 5 photos: its estimate is unbiased and may fall below zero. The "
            f"pocket's CLIP knows identities less well than the judge.\n\n{field_table(cells, extras.of_field)}")


def samples_section(extras: Extras) -> str:
    """The sheets."""
    return "\n\n".join(f"Subject {number}, seed 0, last checkpoint; the right column is 'a noun': what has drifted.\n\n"
                       f"![samples of subject {number}](evidence_samples_{number}.jpg)" for number in extras.samples)


def mask_section(path: Path = MASKS) -> str:
    """Rows of the masks' own bench: the only masks that a method draws are DCI's."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("| mask |"))
    rows = [next(line for line in lines[header:] if line.startswith(start)) for start in MASK_ROWS]
    return ("Only DCI draws masks; methods trained with masks get the photos' exact ones. From "
            "[dci_mask_iou.md](../benchmarks/results/dci_mask_iou.md), rendered pictures with exact masks:\n\n"
            + "\n".join([lines[header], lines[header + 1], *rows]))


def settings_section(cells: Cells, settings: Mapping[str, object]) -> str:
    """The bench's settings, versions and seeds, then the methods'."""
    versions = {"Python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__,
                "scipy": scipy.__version__, "matplotlib": matplotlib.__version__, "ComfyUI": COMFYUI_VERSION}
    every = {**settings, "subjects' numbers": ", ".join(map(str, sorted({number for _, number, _ in cells}))),
             "seeds' numbers": ", ".join(map(str, sorted({seed for *_, seed in cells}))),
             "versions": ", ".join(f"{name} {version}" for name, version in versions.items())}
    return "\n".join(f"- {name}: {text}" for name, text in every.items()) + f"\n\n{settings_table(cells)}"
