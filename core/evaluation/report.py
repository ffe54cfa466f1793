"""An evaluation as a table for people and as JSON for programs, and two of them compared prompt by prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError
from .figures import Figure, Figures
from .metrics import Estimate, estimate
from .prompts import EvaluationPrompt

FORMAT = "personalize evaluation 1"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model's figures on one subject.

    Attributes:
        label: what people call it.
        settings: how it was sampled; two evaluations are comparable where they agree.
    """

    label: str
    identifier: str
    class_noun: str
    prompts: tuple[EvaluationPrompt, ...]
    figures: Figures
    settings: Mapping[str, Any]

    def unit_names(self, figure: Figure) -> list[str]:
        """What each of a figure's values belongs to, under names that another model's evaluation has as well."""
        if figure.unit == "prompts":
            return [prompt.class_text for prompt in self.prompts]
        return [f"{figure.unit} {number}" for number in range(len(figure.values))]

    def of_kind(self, figure: Figure, kind: str) -> list[float]:
        """A figure's values for the prompts of a kind."""
        return [value for value, prompt in zip(figure.values, self.prompts, strict=True) if prompt.kind == kind]


def to_json(evaluation: Evaluation) -> str:
    """All of it; values that could not be measured are null."""
    figures = {name: {**asdict(figure), "values": [_or_null(value) for value in figure.values],
                      **{key: _or_null(value) for key, value in asdict(figure.estimate).items()}}
               for name, figure in evaluation.figures.present.items()}
    content = {"format": FORMAT, "label": evaluation.label, "identifier": evaluation.identifier,
               "class_noun": evaluation.class_noun, "settings": dict(evaluation.settings),
               "prompts": [asdict(prompt) for prompt in evaluation.prompts], "figures": figures,
               "absent": evaluation.figures.absent}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def from_json(text: str) -> Evaluation:
    """What `to_json` wrote.

    Raises:
        InputError: another text.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        names = ("name", "title", "meaning", "more_is_better", "unit")
        present = {name: Figure(**{key: entry[key] for key in names}, values=tuple(
            math.nan if value is None else float(value) for value in entry["values"]))
            for name, entry in content["figures"].items()}
        return Evaluation(label=str(content["label"]), identifier=str(content["identifier"]),
                          class_noun=str(content["class_noun"]), settings=dict(content["settings"]),
                          prompts=tuple(EvaluationPrompt(**entry) for entry in content["prompts"]),
                          figures=Figures(present=present, absent=dict(content["absent"])))
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        raise InputError("compare", f"{text[:40]!r}", "the json of another evaluation",
                         "Connect that output of the other node, or nothing.") from reason


def difference(one: Evaluation, other: Evaluation, name: str) -> Estimate | None:
    """A figure of one minus the other's, over the prompts (or class pictures) that both have; None without any."""
    if name not in other.figures.present:
        return None
    (mine, own), (theirs, their) = ((each.unit_names(figure), figure) for each, figure in
                                    ((one, one.figures.present[name]), (other, other.figures.present[name])))
    values = dict(zip(theirs, their.values, strict=True))
    paired = [value - values[unit] for unit, value in zip(mine, own.values, strict=True) if unit in values]
    return estimate(paired) if paired else None


def table(evaluation: Evaluation, other: Evaluation | None = None) -> str:
    """Markdown: one row per figure, then what is absent, and how it was made."""
    columns = ["figure", evaluation.label, *([other.label, "difference"] if other else []), "better", "what it is"]
    rows = [_row(evaluation, other, figure) for figure in evaluation.figures.present.values()]
    lines = [_line(columns), "|---" * len(columns) + "|", *map(_line, rows)]
    lines += ["", *(f"- no {title}: {what}" for title, what in evaluation.figures.absent.items())]
    made = ", ".join(f"{name} {value}" for name, value in evaluation.settings.items())
    lines += [f"- {len(evaluation.prompts)} prompts with {evaluation.identifier!r}; {made}",
              "- in brackets: 95 % bootstrap interval over prompts, or over class pictures; 5 are the fewest for one"]
    if other:
        lines += [f"- not comparable with {other.label}: {what}" for what in disagreements(evaluation, other)]
    return "\n".join(lines)


def _row(evaluation: Evaluation, other: Evaluation | None, figure: Figure) -> list[str]:
    compared: list[str] = []
    if other:
        theirs, change = other.figures.present.get(figure.name), difference(evaluation, other, figure.name)
        compared = [_said(theirs) if theirs else "-", _signed(change) if change else "-"]
    return [figure.title, _said(figure), *compared, "more" if figure.more_is_better else "less", figure.meaning]


def _said(figure: Figure) -> str:
    """The mean with its interval; what belongs to all pictures has none."""
    return f"{figure.estimate.mean:.3f}" if figure.unit == "all pictures" else str(figure.estimate)


def _signed(change: Estimate) -> str:
    """A difference, with what can be said of it."""
    if not change.has_interval:
        return f"{change.mean:+.3f}"
    sure = "" if change.low <= 0 <= change.high else ", clear"
    return f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]{sure}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def disagreements(one: Evaluation, other: Evaluation) -> list[str]:
    """Why two evaluations are not of the same pictures: settings, prompts, class noun."""
    found = [f"{name} {one.settings[name]} here and {other.settings.get(name)} there"
             for name in one.settings if one.settings[name] != other.settings.get(name)]
    mine, theirs = ({prompt.class_text for prompt in each.prompts} for each in (one, other))
    if mine != theirs:
        found.append(f"{len(mine & theirs)} prompts are in both, of {len(mine)} here and {len(theirs)} there")
    return found
