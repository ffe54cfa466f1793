"""The report's charts as PNG: curves with crosses of intervals, bars, and the claims' differences; legible in grey."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .claims import AREA
from .intervals import Estimate, estimate, subject_means
from .methods import Method
from .tables import FEWER, Cells, Finding, of_method, over_subjects, present, title_of

matplotlib.use("Agg")
MARKERS, LINES = "os^Dv<>P*Xhd", ("-", "--", ":", "-.")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Baselines": ("dreambooth", "lora", "textual_inversion", "custom_diffusion", "ed_lora", "ico", "one_shot",
                  "best"),
    "DreamBooth: prior and class noun": ("dreambooth", "dreambooth_without_prior", "lora", "lora_prior",
                                         "lora_wrong_noun", "lora_no_noun"),
    "Identifiers and ICO": ("lora", "lora_english_word", "ico", "ico_manual_prompt", "ico_m1", "ico_m4", "ico_n4k2"),
    "One-shot": ("one_shot", "one_shot_random_start", "one_shot_without_cl", "one_shot_without_sp"),
}
"""Which methods are compared in one panel."""
BARS = ("fidelity", "alignment", AREA, "drift", "diversity", "overfitting")


def as_png(figure: Figure) -> bytes:
    """The file's bytes."""
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def spread(found: Estimate) -> tuple[float, float]:
    """How far an interval reaches below and above its mean; nothing where there is none."""
    if math.isnan(found.low):
        return 0.0, 0.0
    return max(0.0, found.mean - found.low), max(0.0, found.high - found.mean)


def groups_of(cells: Cells) -> dict[str, list[Method]]:
    """Panels that have methods; those that belong nowhere get one of their own."""
    shown = {method.name: method for method in present(cells)}
    found = {title: [shown[name] for name in names if name in shown] for title, names in GROUPS.items()}
    known = {name for names in GROUPS.values() for name in names}
    found["Others"] = [method for name, method in shown.items() if name not in known]
    return {title: methods for title, methods in found.items() if methods}


def curves(cells: Cells) -> bytes:
    """Fidelity against alignment over the checkpoints: hollow on the way, filled at the end, crosses for intervals."""
    groups = groups_of(cells)
    figure = Figure(figsize=(11, 4.4 * -(-len(groups) // 2)), dpi=85)
    panels = list(figure.subplots(-(-len(groups) // 2), 2, sharex=True, sharey=True, squeeze=False).flat)
    for axes, (title, methods) in zip(panels, groups.items(), strict=False):
        for number, method in enumerate(methods):
            draw_curve(axes, cells, method, number, len(methods))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("alignment: probability of what the prompt asks for", fontsize=8)
        axes.set_ylabel("fidelity: cosine to the subject's photos", fontsize=8)
        axes.tick_params(labelbottom=True, labelleft=True, labelsize=7)
        axes.legend(fontsize=7)
    for axes in panels[len(groups):]:
        axes.set_visible(False)
    return as_png(figure)


def draw_curve(axes: Axes, cells: Cells, method: Method, number: int, count: int) -> None:
    """One method: a line through its checkpoints."""
    points = [[at_checkpoint(cells, method.name, step, measure) for measure in ("alignment", "fidelity")]
              for step in range(checkpoints_of(cells, method.name))]
    colour, marker = str(round(0.65 * number / max(1, count - 1), 2)), MARKERS[number % len(MARKERS)]
    line = ":" if title_of(cells, method).endswith(FEWER) else LINES[number % 2]
    axes.plot([x.mean for x, _ in points], [y.mean for _, y in points], linestyle=line, color=colour, linewidth=1)
    for step, (x, y) in enumerate(points):
        is_last = step == len(points) - 1
        axes.errorbar(x.mean, y.mean, xerr=[[part] for part in spread(x)], yerr=[[part] for part in spread(y)],
                      marker=marker, markersize=7 if is_last else 5, color=colour, elinewidth=0.7,
                      markerfacecolor=colour if is_last else "white", linestyle="none",
                      label=title_of(cells, method) if is_last else None)


def checkpoints_of(cells: Cells, method: str) -> int:
    """The fewest of any cell."""
    return min(len(cell["checkpoints"]) for cell in of_method(cells, method).values())


def at_checkpoint(cells: Cells, method: str, step: int, measure: str) -> Estimate:
    """A measure over subjects at one checkpoint."""
    rows = [(number, float(cell["checkpoints"][step][measure]))
            for (number, _), cell in of_method(cells, method).items()]
    return estimate(list(subject_means(rows).values()))


def bars(cells: Cells, measures: Sequence[str] = BARS) -> bytes:
    """A panel of bars with intervals for each measure; hatched where a method has fewer subjects than the others."""
    methods = present(cells)[::-1]
    titles = [title_of(cells, method) for method in methods]
    figure = Figure(figsize=(12, 1.2 + 0.24 * len(methods) * 2), dpi=85)
    panels = figure.subplots(2, -(-len(measures) // 2), sharey=True, squeeze=False)
    for axes, measure in zip(panels.flat, measures, strict=False):
        found = [over_subjects(cells, method.name, measure) for method in methods]
        errors = list(zip(*(spread(each) for each in found), strict=True))
        drawn = axes.barh(range(len(methods)), [each.mean for each in found], xerr=errors, color="0.75",
                          edgecolor="0.2", height=0.7, error_kw={"elinewidth": 1, "capsize": 2})
        for bar, title in zip(drawn, titles, strict=True):
            bar.set_hatch("///" if title.endswith(FEWER) else "")
        axes.set_yticks(range(len(methods)), titles, fontsize=7)
        axes.axvline(0, color="0.2", linewidth=0.8)
        axes.set_title(measure, fontsize=9)
        axes.tick_params(axis="x", labelsize=7)
    return as_png(figure)


def claims_chart(found: Sequence[Finding]) -> bytes:
    """Every difference, turned so that the expected side is on the right: filled where there is a verdict."""
    shown = [each for each in found if not math.isnan(each.difference.mean)][::-1]
    figure = Figure(figsize=(11, 1 + 0.26 * max(1, len(shown))), dpi=85)
    axes = figure.subplots()
    for row, each in enumerate(shown):
        low, high = spread(each.difference)
        is_decided = each.verdict in ("supported", "contradicted")
        axes.errorbar(each.difference.mean * each.claim.expected, row, marker="o", color="0.1", elinewidth=1,
                      xerr=[[low], [high]] if each.claim.expected > 0 else [[high], [low]], capsize=2,
                      markerfacecolor="0.1" if is_decided else "white")
    axes.axvline(0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(shown)), [f"{each.claim.text} ({each.claim.measure}): {each.verdict}" for each in shown],
                    fontsize=7)
    axes.set_xlabel("difference in the expected direction", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    return as_png(figure)


