"""Charts of the DCI bench: over omega (the figure 9 of the paper), over training (6), and its ablations (10)."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .claims import AREA
from .dci_settings import CHOSEN, CURVES, FIGURES, OMEGAS
from .dci_values import Cells, difference, values
from .intervals import Estimate, estimate

matplotlib.use("Agg")
BARS = ("mean", "sum", "split", "last", "noun_prior", "noun_random", "published", "plain")
LINES = {"alignment": ("o", "-", "0.1"), "fidelity": ("s", "--", "0.5")}
CURVE_LINES = (("o", "-", "0.55"), ("^", ":", "0.35"), ("s", "--", "0.05"))


def draw_charts(cells: Cells) -> bytes:
    """The three charts side by side, as PNG; legible in grey."""
    figure = Figure(figsize=(15, 4.6), dpi=100)
    over_omega, over_training, ablations = figure.subplots(1, 3)
    _over_omega(over_omega, cells)
    _over_training(over_training, cells)
    _ablations(ablations, cells)
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def of(cells: Cells, name: str, measure: str) -> Estimate:
    """A setting's mean over subjects with its interval."""
    return estimate(list(values(cells, name, measure).values()))


def _over_omega(axes: Axes, cells: Cells) -> None:
    """Alignment and fidelity at every omega with intervals; plain sampling as a level line of the same colour."""
    names = {omega: "dci" if omega == CHOSEN.omega else f"omega_{omega:g}" for omega in OMEGAS}
    for measure, (marker, line, colour) in LINES.items():
        found = {omega: of(cells, name, measure) for omega, name in names.items() if values(cells, name, measure)}
        means = [each.mean for each in found.values()]
        axes.errorbar(list(found), means, yerr=_reach(list(found.values())), marker=marker, linestyle=line,
                      color=colour, capsize=3, label=f"{measure}, DCI")
        axes.axhline(of(cells, "plain", measure).mean, linestyle=":", color=colour, label=f"{measure}, plain")
    axes.set(xlabel="omega", ylim=(0, 1), title="Over omega (fig. 9)")
    axes.legend(fontsize=8)


def _over_training(axes: Axes, cells: Cells) -> None:
    """Fidelity against alignment at the checkpoints of training, from the first to the last."""
    for (title, names), (marker, line, colour) in zip(CURVES.items(), CURVE_LINES, strict=True):
        points = [(of(cells, name, "alignment").mean, of(cells, name, "fidelity").mean) for name in names
                  if values(cells, name, "alignment")]
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, linestyle=line, color=colour, label=title)
    axes.set(xlabel="alignment", ylabel="fidelity", title="Over training steps (fig. 6)")
    axes.legend(fontsize=8)


def _ablations(axes: Axes, cells: Cells) -> None:
    """Area minus DCI's, with intervals."""
    titles = {setting.name: setting.title for setting in FIGURES}
    found = {titles[name]: difference(cells, name, "dci", AREA) for name in reversed(BARS)
             if values(cells, name, AREA)}
    axes.barh(list(found), [each.mean for each in found.values()], xerr=_reach(list(found.values())), color="0.7",
              edgecolor="0.2", capsize=3)
    axes.axvline(0, color="0.2", linewidth=1)
    axes.set(xlabel="area minus DCI's", title="Variants (fig. 10, 12)")
    axes.tick_params(axis="y", labelsize=8)


def _reach(found: Sequence[Estimate]) -> list[list[float]]:
    """How far intervals reach below and above their means; 0 where there is none."""
    return [[max(0.0, each.mean - each.low) if each.low == each.low else 0.0 for each in found],
            [max(0.0, each.high - each.mean) if each.high == each.high else 0.0 for each in found]]
