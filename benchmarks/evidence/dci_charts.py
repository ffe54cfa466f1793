"""Charts of the DCI bench: each subject, and the figures 9 (omega), 6 (training), 10 and 12 (variants) of the paper."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .claims import AREA
from .dci_settings import CHOSEN, CURVES, FIGURES, OMEGAS
from .dci_values import Cells, difference, values
from .intervals import FEWEST, Estimate, estimate

matplotlib.use("Agg")
BARS = ("mean", "sum", "split", "last", "noun_prior", "noun_random", "published", "rows", "plain")
LINES = {"alignment": ("o", "-", "0.1"), "fidelity": ("s", "--", "0.5")}
CURVE_LINES = (("o", "-", "0.55"), ("^", ":", "0.35"), ("s", "--", "0.05"))


def draw_charts(cells: Cells) -> bytes:
    """Four charts as PNG, legible in grey; a setting is drawn where `FEWEST` subjects have it."""
    figure = Figure(figsize=(11, 8), dpi=90)
    charts = figure.subplots(2, 2)
    for axes, draw in zip(charts.flat, (_each_subject, _over_omega, _over_training, _variants), strict=True):
        if not draw(axes, cells):
            axes.text(0.5, 0.5, f"not run on {FEWEST} subjects", ha="center", va="center", transform=axes.transAxes)
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def of(cells: Cells, name: str, measure: str) -> Estimate:
    """A setting's mean over subjects with its interval."""
    return estimate(list(values(cells, name, measure).values()))


def has_enough(cells: Cells, name: str) -> bool:
    """Whether enough subjects have a setting for an interval."""
    return len(values(cells, name, AREA)) >= FEWEST


def _each_subject(axes: Axes, cells: Cells) -> bool:
    """An arrow per subject from plain sampling to DCI, fidelity against alignment."""
    plain, mixed = ({measure: values(cells, name, measure) for measure in LINES} for name in ("plain", "dci"))
    both = sorted(plain["alignment"].keys() & mixed["alignment"].keys())
    for subject in both:
        start, end = ((found["alignment"][subject], found["fidelity"][subject]) for found in (plain, mixed))
        axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": "0.3"})
        axes.plot(*start, marker="o", color="0.6", label="plain" if subject == both[0] else None)
        axes.plot(*end, marker="s", color="0.1", label="DCI" if subject == both[0] else None)
        axes.annotate(str(subject), start, textcoords="offset points", xytext=(4, 4), fontsize=8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="alignment", ylabel="fidelity", title="Each subject, plain to DCI")
    if both:
        axes.legend(fontsize=8, loc="lower left")
    return bool(both)


def _over_omega(axes: Axes, cells: Cells) -> bool:
    """Alignment and fidelity at every omega with intervals; plain sampling as a level line of the same grey."""
    axes.set(xlabel="omega", ylim=(0, 1), title="Over omega (fig. 9)")
    names = {omega: "dci" if omega == CHOSEN.omega else f"omega_{omega:g}" for omega in OMEGAS}
    names = {omega: name for omega, name in names.items() if has_enough(cells, name)}
    if len(names) < 2:
        return False
    for measure, (marker, line, colour) in LINES.items():
        found = [of(cells, name, measure) for name in names.values()]
        axes.errorbar(list(names), [each.mean for each in found], yerr=_reach(found), marker=marker, linestyle=line,
                      color=colour, capsize=3, label=f"{measure}, DCI")
        axes.axhline(of(cells, "plain", measure).mean, linestyle=":", color=colour, label=f"{measure}, plain")
    axes.legend(fontsize=8)
    return True


def _over_training(axes: Axes, cells: Cells) -> bool:
    """Fidelity against alignment at the checkpoints of training, from the first to the last."""
    axes.set(xlabel="alignment", ylabel="fidelity", title="Over training steps (fig. 6)")
    found = [(curve, look) for curve, look in zip(CURVES.items(), CURVE_LINES, strict=True)
             if all(has_enough(cells, name) for name in curve[1])]
    for (title, names), (marker, line, colour) in found:
        points = [(of(cells, name, "alignment").mean, of(cells, name, "fidelity").mean) for name in names]
        axes.plot(*zip(*points, strict=True), marker=marker, linestyle=line, color=colour, label=title)
    if found:
        axes.legend(fontsize=8)
    return bool(found)


def _variants(axes: Axes, cells: Cells) -> bool:
    """Area minus DCI's, with intervals."""
    axes.set(xlabel="area minus DCI's", title="Variants (fig. 10, 12)")
    titles = {setting.name: setting.title for setting in FIGURES}
    found = {titles[name]: difference(cells, name, "dci", AREA) for name in reversed(BARS) if has_enough(cells, name)}
    axes.barh(list(found), [each.mean for each in found.values()], xerr=_reach(list(found.values())), color="0.7",
              edgecolor="0.2", capsize=3)
    axes.axvline(0, color="0.2", linewidth=1)
    axes.tick_params(axis="y", labelsize=8)
    return bool(found)


def _reach(found: Sequence[Estimate]) -> list[list[float]]:
    """How far intervals reach below and above their means; 0 where there is none."""
    return [[max(0.0, each.mean - each.low) if each.low == each.low else 0.0 for each in found],
            [max(0.0, each.high - each.mean) if each.high == each.high else 0.0 for each in found]]
