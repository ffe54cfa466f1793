"""How well do DCI's masks of 'V noun' cover the subject? IoU on the pocket world, where truth is known exactly.

    python benchmarks/dci_mask_iou.py [--write]

V is the name of an individual that the pocket model knows ('a {name} dog in the snow'), so nothing is trained.
*Seen*: a rendered picture of the individual (exact mask) and one of the auxiliary noun in the same place (concept and
auxiliary rows) are noised to levels of the window and shown to both branches once. *Sampled*: pictures sampled with
DCI; their subject is found as what no backdrop of the context explains, a segmentation whose own IoU is reported.
Thresholds are chosen on 30 individuals; figures are of others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dci_sampling import start_comfyui
from mask_iou.page import LABELS, by_level, draw, header, table
from mask_iou.recording import LATER, look_once, maps_of, sample_case
from mask_iou.scenes import Case, cases, mean_masks, moved
from mask_iou.scoring import area_iou, bounds, choose, interval
from mask_iou.segmentation import backdrops, choose_cut, novelties
from pocket_checkpoint import load

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "dci_mask_iou.md"
FIGURE = RESULTS.with_suffix(".png")
DEVELOPMENT, FINAL, SAMPLED = 30, 60, 32
EXAMPLES = 4
"""Of the figure, rendered ones and as many that were sampled."""

Models = tuple[Any, Any, Any]
"""MODEL, CLIP and VAE."""


def measure() -> str:
    """The whole report."""
    import torch

    with torch.inference_mode():
        models = load()
        development, final = cases(0, DEVELOPMENT), cases(DEVELOPMENT, FINAL)
        truths = [[case.mask for case in part] for part in (development, final)]
        seen = [[look_once(*models, case, index) for index, case in enumerate(part)] for part in (development, final)]
        size = final[0].mask.shape[0]
        known_maps, maps = (maps_of(recorders, size) for recorders in seen)
        thresholds, best = choose(known_maps, truths[0])
        bars = make_bars(development, final)
        lines = table("Seen: rendered pictures, exact masks", maps, truths[1], thresholds, bars)
        lines += by_level(seen[1], truths[1], "Seen")
        lines += of_moved(models, final, thresholds, bars)
        known = {context: backdrops(models[2], context)
                 for context in sorted({case.context for case in development + final})}
        cut, own = choose_cut(models[2], development, final, known)
        pictures, segments, sampled = of_sampled(models, final[:SAMPLED], known, cut)
        lines += table("Sampled with DCI: subject segmented", sampled, segments, thresholds, bars)
        draw([*examples([case.picture for case in final], truths[1], maps), *examples(pictures, segments, sampled)],
             FIGURE)
    return header(f"{LABELS[best[0]]}, {best[1]}", own, DEVELOPMENT) + "\n".join(lines)


def make_bars(development: list[Case], final: list[Case]) -> dict[str, tuple]:
    """Masks that know nothing of the picture, for the final cases, with thresholds of the development cases."""
    import torch

    of_noun, truths = mean_masks(), [case.mask for case in development]
    world = torch.stack(list(of_noun.values())).mean(0)
    bars = {}
    for name, pick in (("mean mask of the world", lambda case: world),
                       ("mean mask of the class noun", lambda case: of_noun[case.noun])):
        cut = choose({("", ""): [pick(case) for case in development]}, truths)[0]["", ""]
        bars[name] = ([pick(case) for case in final], cut)
    return bars


def of_moved(models: Models, final: list[Case], thresholds: dict, bars: dict) -> list[str]:
    """Do masks follow a subject that stands where it never stood in training?"""
    shifted = [moved(case, index) for index, case in enumerate(final)]
    recorders = [look_once(*models, case, index) for index, case in enumerate(shifted)]
    truths = [case.mask for case in shifted]
    maps = maps_of(recorders, truths[0].shape[0])
    lines = table("Moved: the same pictures, shifted by a sixth", maps, truths, thresholds, bars)
    stays = [[area_iou(values, case.mask) for values, case in zip(maps[kind, "finest scale"], final, strict=True)]
             for kind in LABELS]
    own = ", ".join(f"{LABELS[kind]} {interval(values)}" for kind, values in zip(LABELS, stays, strict=True))
    goes = [area_iou(values, truth) for values, truth in zip(maps["concept", "finest scale"], truths, strict=True)]
    low, high = bounds([there - before for there, before in zip(goes, stays[0], strict=True)])
    verdict = ("over the window they follow the subject" if low > 0 else
               "in the window they show where this noun stands in the world, not where it stands in the picture"
               if high < 0 else "over the window as a whole it is undecided which of the two they show: see by level")
    lines += [f"With the place where the subject stood before (finest scale, at the true area): {own}.", "",
              f"So {verdict}.", ""]
    lines += by_level(recorders, truths, "Moved")
    later = [look_once(*models, case, index, LATER) for index, case in enumerate(shifted)]
    return lines + by_level(later, truths, "Moved, after the window", LATER)


def of_sampled(models: Models, final: list[Case], known: dict[str, Any],
               cut: float) -> tuple[list[Any], list[Any], dict]:
    """Pictures sampled with DCI, their subjects as they are segmented, and the maps of those runs."""
    pictures, recorders = zip(*(sample_case(*models, case, index) for index, case in enumerate(final)), strict=True)
    segments = [new >= cut for new in novelties(pictures, final, known)]
    return list(pictures), segments, maps_of(list(recorders), final[0].mask.shape[0])


def examples(pictures: list[Any], truths: list[Any], maps: dict) -> list[tuple[Any, Any, Any, Any]]:
    """The figure's first columns of one set: picture, subject, concept map, mask."""
    return [(pictures[index], truths[index].float(), maps["concept", "finest scale"][index],
             maps["mask", "finest scale"][index]) for index in range(EXAMPLES)]


def main() -> None:
    parser = argparse.ArgumentParser(description="How well DCI's masks cover the subject.")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)} and its figure")
    options = parser.parse_args()
    start_comfyui()
    report = measure()
    print(report)
    if options.write:
        RESULTS.write_text(report.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
