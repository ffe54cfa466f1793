"""Cells to rows: values per cell, means per subject, and the report's tables in Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .claims import AREA, AT_EQUAL_FIDELITY, CLAIMS, REASONS, UPSCALER_CLAIMS, Claim
from .intervals import (
    LEVEL,
    Estimate,
    at_equal_fidelity,
    chance_of,
    estimate,
    frontier_area,
    holm,
    subject_means,
    verdict,
)
from .methods import METHODS, Method

Key = tuple[str, int, int]
Cells = Mapping[Key, Mapping[str, Any]]
"""(method, subject, seed) to the cell that `cells.make_cell` made."""
MEASURES = ("fidelity", "alignment", AREA, "drift", "diversity", "copying", "overfitting", "noun")
ACCURACIES = ("class", "context", "attribute", "colour", "hat")
FEWER = "†"
"""Behind a method that lacks subjects which others have: its mean is over other subjects than theirs."""
UPSCALER_FIGURES = Path(__file__).resolve().parents[1] / "results" / "super_resolution.json"
CLAIMS_HEADER = ("| claim | source | measure | expected | measured difference | n | p, by Holm | verdict |\n"
                 "|---|---|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Finding:
    """A claim with what was measured of it.

    Attributes:
        claim: what is claimed.
        difference: its mean over subjects with the interval.
        chance: p of the t-test, alone.
        corrected: the same by Holm, once `correct` has seen all of a page's findings.
    """

    claim: Claim
    difference: Estimate
    chance: float = math.nan
    corrected: float = math.nan

    @property
    def verdict(self) -> str:
        """As `intervals.verdict`, where it survives Holm's correction."""
        alone = verdict(self.difference, self.claim.expected)
        return alone if alone in ("too few", "undecided") or self.corrected <= LEVEL else "undecided"

    @property
    def has_no_room(self) -> bool:
        """Whether both methods have the same figure everywhere."""
        return self.difference.low == self.difference.high == 0


def value(cell: Mapping[str, Any], measure: str) -> float:
    """A measure at the last checkpoint, or the area under the curve of all of them; NaN where it was not measured."""
    points = cell["checkpoints"]
    if measure == AREA:
        return frontier_area([(point["alignment"], point["fidelity"]) for point in points])
    return float(points[-1].get(measure, math.nan))


def curve(cell: Mapping[str, Any], measure: str) -> list[tuple[float, float]]:
    """(fidelity, measure) of every checkpoint."""
    return [(point["fidelity"], point.get(measure, math.nan)) for point in cell["checkpoints"]]


def difference(first: Mapping[str, Any], second: Mapping[str, Any], measure: str) -> float:
    """Two cells of one subject and seed."""
    if measure.endswith(AT_EQUAL_FIDELITY):
        own = measure.removesuffix(AT_EQUAL_FIDELITY)
        return at_equal_fidelity(curve(first, own), curve(second, own))
    return value(first, measure) - value(second, measure)


def of_method(cells: Cells, method: str) -> dict[tuple[int, int], Mapping[str, Any]]:
    """The cells of a method by subject and seed."""
    return {key[1:]: cell for key, cell in sorted(cells.items()) if key[0] == method}


def present(cells: Cells) -> list[Method]:
    """The methods that have cells, in the order of `methods.py`."""
    names = {name for name, *_ in cells}
    return [method for method in METHODS.values() if method.name in names]


def paired(cells: Cells, claim: Claim) -> Estimate:
    """The claim's difference over the subjects that both methods have, seeds of a subject averaged first."""
    return estimate(differences(cells, claim))


def differences(cells: Cells, claim: Claim) -> list[float]:
    """The same, one per subject."""
    first, second = of_method(cells, claim.first), of_method(cells, claim.second)
    shared = sorted(first.keys() & second.keys())
    rows = [(unit[0], difference(first[unit], second[unit], claim.measure)) for unit in shared]
    return list(subject_means(rows).values())


def over_subjects(cells: Cells, method: str, measure: str) -> Estimate:
    """A method's mean over its subjects."""
    rows = [(unit[0], value(cell, measure)) for unit, cell in of_method(cells, method).items()]
    return estimate(list(subject_means(rows).values()))


def subjects_of(cells: Cells, method: str) -> set[int]:
    """The subjects that a method has."""
    return {number for number, _ in of_method(cells, method)}


def title_of(cells: Cells, method: Method) -> str:
    """A method's title, marked where it lacks subjects that another has."""
    every = {number for _, number, _ in cells}
    return method.title + (f" {FEWER}" if subjects_of(cells, method.name) < every else "")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def methods_table(cells: Cells, measures: Sequence[str] = MEASURES) -> str:
    """One row per method, one column per measure."""
    return table(["method", *measures, "subjects"],
                 [[title_of(cells, method), *(over_subjects(cells, method.name, name) for name in measures),
                   len(subjects_of(cells, method.name))] for method in present(cells)])


def field_table(cells: Cells, figures: Mapping[Key, Mapping[str, float]]) -> str:
    """The field's measures, one row per method that has them."""
    names = list(dict.fromkeys(name for found in figures.values() for name in found))
    rows = []
    for method in present(cells):
        own = [(key[1], found) for key, found in sorted(figures.items()) if key[0] == method.name]
        if own:
            columns = [subject_means((number, found.get(name, math.nan)) for number, found in own) for name in names]
            rows.append([title_of(cells, method), *(estimate(list(column.values())) for column in columns)])
    return table(["method", *names], rows)


def settings_table(cells: Cells) -> str:
    """How each method was trained."""
    rows = []
    for method in present(cells):
        objectives = ", ".join(objective.kind.replace("_", " ") for objective in method.objectives) or "plain"
        word = "no" if method.vectors is None else f"{method.vectors.count} at {method.vectors.learning_rate:g}"
        steps = sorted({cell["checkpoints"][-1]["steps"] for cell in of_method(cells, method.name).values()})
        rows.append([method.title, f"`{method.name}`", ", ".join(map(str, steps)), f"{method.learning_rate:g}",
                     method.batch, method.photos, word, objectives])
    return table(["method", "name", "steps", "rate", "batch", "photos", "learned vectors", "objectives"], rows)


def findings(cells: Cells) -> list[Finding]:
    """Every claim of `CLAIMS` that both of its methods were run for."""
    found = [finding_of(claim, differences(cells, claim)) for claim in CLAIMS]
    return [finding for finding in found if finding.difference.count]


def finding_of(claim: Claim, values: list[float]) -> Finding:
    """A claim's finding from one difference per subject, not yet corrected for the others."""
    return Finding(claim, estimate(values), chance_of(values))


def correct(found: Sequence[Finding]) -> list[Finding]:
    """The findings of a page, each p corrected for all of them."""
    return [replace(each, corrected=corrected)
            for each, corrected in zip(found, holm([each.chance for each in found]), strict=True)]


def not_run(cells: Cells) -> list[Claim]:
    """The others."""
    done = {finding.claim for finding in findings(cells)}
    return [claim for claim in CLAIMS if claim not in done]


def upscaler_findings(path: Path = UPSCALER_FIGURES) -> list[Finding]:
    """`UPSCALER_CLAIMS` by the figures that `benchmarks/super_resolution.py` left."""
    if not path.exists():
        return []
    kept = json.loads(path.read_text(encoding="utf-8"))
    subjects, names = kept["subjects"].values(), kept["figures"]
    return [finding_of(claim, [rows[claim.first][names.index(claim.measure)]
                               - rows[claim.second][names.index(claim.measure)] for rows in subjects])
            for claim in UPSCALER_CLAIMS]


def claims_table(found: Sequence[Finding]) -> str:
    """One row per finding."""
    rows = [f"| {each.claim.text} | {each.claim.source} | {each.claim.measure} "
            f"| {'above' if each.claim.expected > 0 else 'below'} 0 | {each.difference} | {each.difference.count} "
            f"| {'' if math.isnan(each.corrected) else f'{each.corrected:.3f}'} | {each.verdict} |" for each in found]
    return "\n".join([CLAIMS_HEADER, *rows])


def reasons(found: Sequence[Finding]) -> str:
    """How claims fail, and what is to be known of supported ones."""
    lines = [f"- *{each.verdict}*, {each.claim.text}: {reason}." for each in found if (reason := reason_of(each))]
    return "\n".join(lines) or "- Every claim that could be measured is supported."


def reason_of(each: Finding) -> str:
    """One finding's reason; empty for one that is supported, or has too few subjects, and needs none."""
    if (written := REASONS.get(each.claim.text)) is not None:
        return written
    if each.has_no_room:
        return "both methods have the same figure for every subject: the measure has no room here"
    if each.verdict == "contradicted":
        return "no reason is known"
    if each.verdict != "undecided":
        return ""
    if verdict(each.difference, each.claim.expected) != "undecided":
        return (f"its interval lies on one side of zero, but among so many claims that happens by chance (p "
                f"{each.corrected:.2f} by Holm)")
    return f"smaller than its spread over {each.difference.count} subjects"


def as_csv(cells: Cells) -> str:
    """Every checkpoint of every cell."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for cell in cells.values() for point in cell["checkpoints"] for name in point))
    writer = csv.DictWriter(out, ["method", "subject", "seed", *names], lineterminator="\n")
    writer.writeheader()
    for (method, number, seed), cell in sorted(cells.items()):
        for point in cell["checkpoints"]:
            figures = {name: round(figure, 5) for name, figure in point.items()}
            writer.writerow({"method": method, "subject": number, "seed": seed, **figures})
    return out.getvalue()
