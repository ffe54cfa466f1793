"""How well does Mask from Noun find the subject? IoU on the pocket world, where truth is known exactly.

    python benchmarks/noun_masks.py [--write]

Rendered pictures of individuals in contexts, as they are and shifted to where the world never has objects, against the
same mask moved by a quarter of the picture, a centred square of the true area, and the mean mask of the class noun,
which knows the world and nothing of the picture.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from dci_sampling import start_comfyui  # noqa: E402
from mask_iou.scenes import Case, cases, mean_masks, moved  # noqa: E402
from mask_iou.scoring import GRID, ceiling, choose, interval, iou  # noqa: E402
from pocket_checkpoint import load  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "noun_masks.md"
DEVELOPMENT, FINAL = 30, 60
TEMPLATES = ("a {noun}", "a photo of a {noun}")


def found_masks(models: Sequence[Any], pictures: Sequence[Case], template: str) -> list[Any]:
    """The node's mask (H, W) of every case, at its defaults but for the template."""
    import torch

    from comfyui_personalize.nodes.bridge.dci.noun_masks import Look, noun_masks, resolution_of

    model, clip, vae = models
    masks = []
    with torch.inference_mode():
        for case in pictures:
            look = Look(noun=case.noun, prompt=template.replace("{noun}", case.noun),
                        resolution=resolution_of(model, 0))
            masks.append(noun_masks(model, clip, vae, [case.picture[None]], look)[0][0].bool())
    return masks


def centred(truth: Any) -> Any:
    """A centred square of the true area, (H, W)."""
    import torch

    side, size = round(math.sqrt(float(truth.sum()))), truth.shape[0]
    start = (size - side) // 2
    square = torch.zeros_like(truth)
    square[start:start + side, start:start + side] = True
    return square


def rows(models: Sequence[Any], pictures: Sequence[Case], mean_of: Any, cut: float) -> list[str]:
    """A table's rows for one set of pictures."""
    truths = [case.mask for case in pictures]

    def row(name: str, masks: Sequence[Any]) -> str:
        return f"| {name} | {interval([iou(mask, truth) for mask, truth in zip(masks, truths, strict=True)])} |"

    own = {template: found_masks(models, pictures, template) for template in TEMPLATES}
    first = own[TEMPLATES[0]]
    return [*(row(f"**'{template}'**", masks) for template, masks in own.items()),
            row("*the same mask, moved by a quarter of the picture*", [mask.roll(24, 1) for mask in first]),
            row("*centred square of the true area*", [centred(truth) for truth in truths]),
            row("*mean mask of the class noun*", [mean_of[case.noun] >= cut for case in pictures]),
            f"| *exact mask through a grid of {GRID} x {GRID} (ceiling)* | "
            f"{interval([ceiling(each, GRID) for each in truths])} |"]


def page(models: Sequence[Any]) -> str:
    """The whole page."""
    development, final = cases(FINAL, DEVELOPMENT), cases(0, FINAL)
    mean_of = mean_masks()
    cuts, _ = choose({("", ""): [mean_of[case.noun] for case in development]}, [case.mask for case in development])
    shifted = [moved(case, number) for number, case in enumerate(final)]
    head = ["| mask | IoU |", "|---|---|"]
    return "\n".join([
        "# How well Mask from Noun finds the subject", "",
        "`python benchmarks/noun_masks.py --write`, pocket model, the node's defaults (two noise levels, Otsu's cut); "
        f"IoU at 96 x 96 pixels on {FINAL} rendered pictures, means with 95 % bootstrap intervals.", "",
        "## Pictures as the world draws them", "", *head, *rows(models, final, mean_of, cuts["", ""]), "",
        "## The same, shifted left or right by a sixth: the world never has objects there", "", *head,
        *rows(models, shifted, mean_of, cuts["", ""]), "",
        "Real models were not measured.", ""])


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    start_comfyui()
    text = page(load())
    print(text)
    if given.write:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
