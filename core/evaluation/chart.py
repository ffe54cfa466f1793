"""The chart: fidelity against alignment by kind of prompt, and every figure with its interval; legible in grey."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .figures import Figure
from .metrics import Estimate, estimate
from .prompts import kinds_of
from .report import Evaluation

SIZE, DOTS_PER_INCH = (13.0, 5.6), 100
MARKERS = "osD^vP<X>*"
DARK, LIGHT, DOT = "#222222", "#b5b5b5", "#8c8c8c"
HATCH = "////"
FEWEST_ROWS = 4
"""Rows for which a panel has room; fewer bars do not grow thicker."""
NO_CHART = "The chart needs matplotlib in ComfyUI's Python:\npip install matplotlib\n\nThe table has all its figures."


def plot_chart(evaluation: Evaluation, other: Evaluation | None = None) -> Tensor:
    """(1, H, W, 3) in 0..1; without matplotlib, which is optional, a picture that says so.

    Args:
        other: drawn hollow, for comparison.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return _to_tensor(_note(NO_CHART))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Paper

    paper = Paper(figsize=SIZE, dpi=DOTS_PER_INCH, layout="constrained")
    canvas = FigureCanvasAgg(paper)
    left, right = paper.subplots(1, 2, width_ratios=(1.0, 1.15))
    figures = evaluation.figures
    if figures.fidelity and figures.alignment:
        _plot_plane(left, evaluation, other, figures.fidelity, figures.alignment)
    else:
        _plot_kinds(left, evaluation, other)
    _plot_figures(right, evaluation, other)
    canvas.draw()
    return _to_tensor(Image.fromarray(numpy.asarray(canvas.buffer_rgba())).convert("RGB"))


def _plot_plane(axes: Any, evaluation: Evaluation, other: Evaluation | None, fidelity: Figure,
                alignment: Figure) -> None:
    """Every prompt as a dot, every kind as a marker with its intervals; up and to the right is better."""
    axes.scatter(alignment.values, fidelity.values, s=9, color=DOT, zorder=1, label="one prompt")
    for place, kind in enumerate(kinds_of(evaluation.prompts)):
        marker = MARKERS[place % len(MARKERS)]
        _plot_point(axes, evaluation, kind, (fidelity.name, alignment.name), marker, DARK, kind)
        if other and kind in kinds_of(other.prompts):
            _plot_point(axes, other, kind, (fidelity.name, alignment.name), marker, "white", None)
    axes.set_xlabel(f"{alignment.title}: alignment with the prompt (cosine)")
    axes.set_ylabel(f"{fidelity.title}: fidelity to the photos (cosine)")
    whose = evaluation.label + (f" (hollow: {other.label})" if other else "")
    axes.set_title(f"fidelity against alignment: {whose}", fontsize=11, loc="left")
    axes.grid(color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4, markerscale=0.7, frameon=False)


def _plot_point(axes: Any, evaluation: Evaluation, kind: str, names: tuple[str, str], marker: str, fill: str,
                label: str | None) -> None:
    if any(name not in evaluation.figures.present for name in names):
        return
    y, x = (estimate(evaluation.of_kind(evaluation.figures.present[name], kind)) for name in names)
    axes.errorbar([x.mean], [y.mean], xerr=_whiskers(x), yerr=_whiskers(y), fmt="none", color=DARK, capsize=3,
                  linewidth=1, zorder=2)
    axes.plot([x.mean], [y.mean], marker=marker, markersize=10, color=DARK, markerfacecolor=fill, markeredgewidth=1.4,
              linestyle="none", label=label, zorder=3)


def _plot_kinds(axes: Any, evaluation: Evaluation, other: Evaluation | None) -> None:
    """Without a fidelity or an alignment: what one figure says of each kind of prompt."""
    figure = evaluation.figures.fidelity or evaluation.figures.first(
        "diversity_lpips", "clip_t", "diversity_clip", "diversity_pixels")
    missing = "\n".join(f"no {title}: {what}" for title, what in evaluation.figures.absent.items()
                        if title in ("CLIP-I, CLIP-T", "DINO"))
    if figure is None:
        axes.axis("off")
        axes.text(0, 0.5, missing, va="center", fontsize=10, wrap=True)
        return
    kinds = kinds_of(evaluation.prompts)
    for number, each in enumerate([evaluation, *([other] if other else [])]):
        found = each.figures.present.get(figure.name)
        values = [estimate(each.of_kind(found, kind)) if found else estimate([]) for kind in kinds]
        _plot_bars(axes, values, number, 2 if other else 1, each.label)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_title(f"{figure.title}, by kind\n{missing}", fontsize=9, loc="left")
    axes.invert_yaxis()


def _plot_figures(axes: Any, evaluation: Evaluation, other: Evaluation | None) -> None:
    """All figures as bars with intervals."""
    figures = list(evaluation.figures.present.values())
    for number, each in enumerate([evaluation, *([other] if other else [])]):
        values = [each.figures.present[figure.name].estimate if figure.name in each.figures.present else estimate([])
                  for figure in figures]
        _plot_bars(axes, values, number, 2 if other else 1, each.label)
    axes.set_yticks(range(len(figures)), [f"{figure.title} ({'+' if figure.more_is_better else '-'})"
                                          for figure in figures])
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.margins(x=0.25)
    axes.set_title("all figures: + more is better, - less is better", fontsize=11, loc="left")
    axes.invert_yaxis()
    if other:
        axes.legend(fontsize=8, loc="lower right")


def _plot_bars(axes: Any, values: list[Estimate], number: int, of: int, label: str) -> None:
    """One model's bars: dark, or light and hatched for the one that it is compared with."""
    thick = 0.72 / of
    places = [row + (number - (of - 1) / 2) * thick for row in range(len(values))]
    axes.barh(places, [0 if math.isnan(value.mean) else value.mean for value in values], height=thick * 0.9,
              color=LIGHT if number == 0 else "white", edgecolor=DARK, hatch=HATCH if number else None, linewidth=0.8,
              label=label)
    for place, value in zip(places, values, strict=True):
        if math.isnan(value.mean):
            continue
        axes.errorbar([value.mean], [place], xerr=_whiskers(value), color=DARK, capsize=2.5, linewidth=1)
        end = max(value.high if value.has_interval else value.mean, 0)
        axes.annotate(f"{value.mean:.3f}", (end, place), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=8, color=DARK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(-0.6, max(len(values), FEWEST_ROWS) - 0.4)


def _whiskers(value: Estimate) -> list[list[float]] | None:
    """matplotlib's error: below and above the mean."""
    return [[value.mean - value.low], [value.high - value.mean]] if value.has_interval else None


def _note(text: str) -> Image.Image:
    image = Image.new("RGB", (640, 200), "white")
    ImageDraw.Draw(image).text((24, 40), text, fill="black", font=ImageFont.load_default(18))
    return image


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(numpy.asarray(image).copy()).float()[None] / 255
