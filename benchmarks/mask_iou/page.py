"""The page: tables of IoU, IoU by noise level, and the figure of a few masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .recording import LEVELS
from .scenes import MOVED
from .scoring import GRID, area_iou, ceiling, interval, iou

LABELS = {"concept": "concept map m^c", "mask": "mask M^c"}


def table(title: str, maps: dict, truths: list[Any], thresholds: dict, bars: dict[str, tuple]) -> list[str]:
    """Markdown rows of one set of pictures."""
    lines = [f"## {title} (n = {len(truths)})", "",
             "| mask | threshold | IoU | IoU at the true area |", "|---|---|---|---|"]
    for (kind, grids), values in maps.items():
        cut = thresholds[kind, grids]
        plain = [iou(each >= cut, truth) for each, truth in zip(values, truths, strict=True)]
        area = [area_iou(each, truth) for each, truth in zip(values, truths, strict=True)]
        lines.append(f"| {LABELS[kind]}, {grids} | {cut:.2f} | {interval(plain)} | {interval(area)} |")
    for name, (values, cut) in bars.items():
        plain = [iou(each >= cut, truth) for each, truth in zip(values, truths, strict=False)]
        area = [area_iou(each, truth) for each, truth in zip(values, truths, strict=False)]
        lines.append(f"| *{name}* | {cut:.2f} | {interval(plain)} | {interval(area)} |")
    grid = [ceiling(truth, GRID) for truth in truths]
    return [*lines, f"| *exact mask through a grid of {GRID} x {GRID} (ceiling)* | 0.50 | {interval(grid)} | |", ""]


def by_level(recorders: list[Any], truths: list[Any], title: str, levels: Sequence[float] = LEVELS) -> list[str]:
    """IoU at the true area of the finest scale, level by level."""
    from comfyui_personalize.core.dci.observation import resize

    rows = ["| fraction of the schedule | sigma | concept map m^c | mask M^c |", "|---|---|---|---|"]
    for level, sigma in zip(levels, recorders[0].sigmas, strict=True):
        columns = []
        for kind in ("concept", "mask"):
            found = [resize(each.at_step(each.grids[-1], sigma, kind), *truth.shape)[0]
                     for each, truth in zip(recorders, truths, strict=True)]
            columns.append(interval([area_iou(each, truth) for each, truth in zip(found, truths, strict=True)]))
        rows.append(f"| {level:g} | {sigma:.2f} | {' | '.join(columns)} |")
    return [f"### {title}: by noise level, finest scale, at the true area", "", *rows, ""]


def draw(examples: list[tuple[Any, Any, Any, Any]], path: Path) -> None:
    """Pictures, their masks and both maps, one column per example, as a file."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, len(examples), figsize=(1.5 * len(examples), 6.3))
    for column, example in enumerate(examples):
        for row, values in enumerate(example):
            axes[row, column].imshow(values.numpy(), cmap=None if row == 0 else "gray", vmin=0, vmax=1)
            axes[row, column].set(xticks=[], yticks=[])
    for row, label in enumerate(("picture", "subject", "concept map", "mask M^c")):
        axes[row, 0].set_ylabel(label)
    figure.suptitle("DCI's masks: four rendered pictures (exact subject), four sampled ones (segmented)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=64)


def header(best: str, own: str, development: int) -> str:
    """What was measured and how; `best` map of the development cases, `own` IoU of the segmentation."""
    return f"""# How well DCI's masks cover the subject

`python benchmarks/dci_mask_iou.py --write`, pocket model, DCI as published (omega 1, window 0.3; the nodes' default
at this size is window 1), prompts such as
'a {{name}} dog in the snow' for individuals that the model knows by name: nothing is trained. IoU at 96 x 96
pixels, means with 95 % bootstrap intervals over pictures. Thresholds were chosen on {development} other individuals in
other scenes, where the best map was: {best}.

*Seen*: both branches look at noised rendered pictures (the individual; the auxiliary noun in the same place) at
{len(LEVELS)} levels of the window; exact masks. *Sampled*: pictures sampled with DCI; the subject is what no backdrop
of the context explains, a segmentation whose own IoU on the rendered pictures is {own}.
*Moved*: as *seen*, the picture shifted left or right by {MOVED} pixels: the world never has objects there.
A single thing stands near the middle in this world, so mean masks, which know nothing of the picture, are the bars to
pass.

![masks](dci_mask_iou.png)

"""
