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
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from dci_sampling import start_comfyui  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "dci_mask_iou.md"
FIGURE = RESULTS.with_suffix(".png")
DEVELOPMENT, FINAL, SAMPLED, BATCH = 30, 60, 32, 10
LEVELS = (0.02, 0.1, 0.2, 0.3)
LATER = (0.5, 0.7, 0.9)
"""After the window, where DCI is over: do the maps see the picture once it is visible?"""
SAMPLER: dict[str, Any] = {"steps": 25, "cfg": 3.0, "sampler": "euler_ancestral", "scheduler": "normal"}
BACKDROPS, RESAMPLES, MOVED = 200, 2000, 16
LABELS = {"concept": "concept map m^c", "mask": "mask M^c"}
GRIDS = {"all scales": None, "finest scale": -1}


class Case(NamedTuple):
    """A scene of an individual, the same place with the auxiliary noun, and the exact mask (H, W) of the first."""

    prompt: str
    name: str
    noun: str
    auxiliary_noun: str
    context: str
    picture: Any
    auxiliary_picture: Any
    mask: Any


def cases(first: int, count: int) -> list[Case]:
    """Scenes of the individuals `first` to `first + count - 1`, each in a context in which it is seen well."""
    import torch

    from comfyui_personalize.pocket.looks import SEEDS, described_look, individuals
    from comfyui_personalize.pocket.places import EXCLUDED_COLOURS, PHRASES
    from comfyui_personalize.pocket.scenes import possible_contexts

    found = []
    for index, (name, look) in list(enumerate(individuals().items()))[first : first + count]:
        rng = random.Random(index)
        context = rng.choice([each for each in possible_contexts([look]) if each != "plain"])
        other = "dog" if look.noun == "cat" else "cat"
        seeds = SEEDS["held_out_scenes"]
        pixels, cover = drawn_alone(look, context, seeds[20_000 + index])
        beside, _ = drawn_alone(described_look(rng, other, set(EXCLUDED_COLOURS[context])), context,
                                seeds[30_000 + index])
        picture, auxiliary = (torch.from_numpy(each.copy()).float() / 255 for each in (pixels, beside))
        found.append(Case(f"a {name} {look.noun} {PHRASES[context][0]}", name, look.noun, other, context, picture,
                          auxiliary, torch.from_numpy(cover) >= 0.5))
    return found


def drawn_alone(look: Any, context: str, seed: int) -> tuple[Any, Any]:
    """A look by itself in the middle of a place: pixels (H, W, 3) uint8 and the exact mask (H, W) in 0..1."""
    from comfyui_personalize.pocket.drawing import coverage, render
    from comfyui_personalize.pocket.placing import Spot
    from comfyui_personalize.pocket.scenes import Scene, Thing

    rng = random.Random(seed)
    spot = Spot(x=rng.uniform(0.45, 0.55), y=rng.uniform(0.57, 0.62), scale=rng.uniform(0.32, 0.37),
                angle=rng.uniform(-0.08, 0.08))
    pixels, labels = render(Scene(things=(Thing(look=look, spot=spot),), relation="", context=context, style="photo",
                                  caption="", seed=seed))
    return pixels, coverage(labels, 1)


def moved(case: Case, index: int) -> Case:
    """The case with everything shifted to the left or right by a sixth of the picture, its edge repeated."""
    import torch

    by = MOVED if index % 2 else -MOVED
    columns = (torch.arange(case.mask.shape[1]) - by).clamp(0, case.mask.shape[1] - 1)
    is_new = (torch.arange(case.mask.shape[1]) - by != columns)[None]
    return case._replace(picture=case.picture[:, columns], mask=case.mask[:, columns] & ~is_new)


def load() -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the pocket checkpoint."""
    import comfy.sd

    from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket

    register_pocket()
    return comfy.sd.load_checkpoint_guess_config(str(CHECKPOINTS / "pocket.safetensors"))[:3]


def dual(model: Any, clip: Any, case: Case, window: float) -> tuple[Any, list]:
    """MODEL and CONDITIONING with DCI at its defaults."""
    from comfyui_personalize.core.dci.config import DCIConfig
    from comfyui_personalize.core.dci.subjects import DCISubject, SubjectPrompt
    from comfyui_personalize.nodes.bridge.dci.dual_branch import patch_dual_branch
    from comfyui_personalize.nodes.bridge.dci.dual_prompt import encode_dual_prompt

    one = DCISubject(identifier=case.name, class_noun=case.noun, auxiliary_noun=case.auxiliary_noun)
    conditioning = encode_dual_prompt(clip, SubjectPrompt(prompt=case.prompt, subjects=(one,)))
    return patch_dual_branch(model, DCIConfig(window=window)), conditioning


def look_once(model: Any, clip: Any, vae: Any, case: Case, index: int, levels: Sequence[float] = LEVELS) -> Any:
    """A recorder of one network call per level on the noised pictures of a case."""
    import comfy.sample
    import comfy.samplers
    import torch

    from comfyui_personalize.core.dci.observation import MaskRecorder
    from comfyui_personalize.nodes.bridge.dci.dual_branch import record_masks

    schedule = model.get_model_object("model_sampling")
    pictures = vae.encode(torch.stack([case.picture, case.auxiliary_picture]))
    rows = model.model.process_latent_in(pictures)
    recorder = MaskRecorder(*pictures.shape[-2:])
    patched, positive = dual(model, clip, case, 1.0)

    class Look(comfy.samplers.Sampler):
        def sample(self, model_wrap: Any, sigmas: Any, extra_args: dict, callback: Any, noise: Any, *others: Any,
                   **more: Any) -> Any:
            for sigma in sigmas:
                noisy = schedule.noise_scaling(sigma, noise.clone(), rows, False)
                model_wrap(noisy, sigma.expand(2), **extra_args)
            return rows

    sigmas = torch.tensor([float(schedule.percent_to_sigma(level)) for level in levels])
    noise = torch.randn(pictures[:1].shape, generator=torch.Generator().manual_seed(index))
    comfy.sample.sample_custom(record_masks(patched, recorder), noise, 1.0, Look(), sigmas, positive, positive,
                               pictures[:1], disable_pbar=True, seed=index)
    return recorder


def sample_case(model: Any, clip: Any, vae: Any, case: Case, index: int) -> tuple[Any, Any]:
    """A picture (H, W, 3) sampled with DCI at its defaults, and the recorder of that run."""
    import torch

    from comfyui_personalize.nodes.bridge.dci.watched_sampling import SamplerSettings, sample_watched
    from comfyui_personalize.nodes.bridge.sampling.sampling import conditioning

    patched, positive = dual(model, clip, case, 0.3)
    latent = {"samples": torch.zeros(1, 16, 12, 12)}
    sampled, recorder = sample_watched(patched, positive, conditioning(clip, ""), latent,
                                       SamplerSettings(seed=index, **SAMPLER), overlay=False)
    return vae.decode(sampled["samples"])[0].clamp(0, 1).float(), recorder


# ---- What is in a picture ----

def backdrops(vae: Any, context: str) -> Any:
    """Rendered backdrops of a context as the autoencoder shows them, (n, H, W, 3)."""
    import numpy
    import torch

    from comfyui_personalize.pocket.config import SIZE
    from comfyui_personalize.pocket.places import BACKDROPS as DRAW

    drawn = [numpy.asarray(DRAW[context](2 * SIZE, random.Random(seed)).resize((SIZE, SIZE)).convert("RGB"))
             for seed in range(BACKDROPS)]
    pixels = torch.from_numpy(numpy.stack(drawn)).float() / 255
    return torch.cat([vae.decode(vae.encode(part)) for part in pixels.split(BATCH)]).clamp(0, 1)


def novelty(picture: Any, known: Any) -> Any:
    """How far each pixel is from the nearest backdrop, (H, W): RGB distance, smoothed over 5 pixels."""
    from torch.nn.functional import avg_pool2d

    nearest = (known - picture).square().sum(-1).sqrt().amin(0)
    return avg_pool2d(nearest[None, None], 5, 1, 2)[0, 0]


# ---- Figures ----

def iou(found: Any, truth: Any) -> float:
    return float((found & truth).sum() / (found | truth).sum().clamp_min(1))


def subject_map(recorder: Any, kind: str, grids: str, size: int) -> Any:
    """The map (H, W) at picture size, stretched to 0..1."""
    from comfyui_personalize.core.dci.observation import stretch

    chosen = None if GRIDS[grids] is None else [recorder.grids[GRIDS[grids]]]
    return stretch(recorder.mean(kind, size, size, chosen))[0]


def area_iou(values: Any, truth: Any) -> float:
    """IoU of the highest pixels, as many as the truth has: no threshold to choose, but the area is told."""
    limit = values.flatten().sort(descending=True).values[int(truth.sum()) - 1]
    return iou(values >= limit, truth)


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % bootstrap interval over pictures."""
    import numpy

    rng = numpy.random.default_rng(0)
    means = numpy.asarray(values)[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = numpy.percentile(means, [2.5, 97.5])
    return f"{numpy.mean(values):.3f} ({low:.3f} to {high:.3f})"


def choose(maps: dict[tuple[str, str], list[Any]], truths: list[Any]) -> tuple[dict[tuple[str, str], float], Any]:
    """The best threshold of every kind of map on the development cases, and the best kind."""
    import numpy

    thresholds, best = {}, {}
    for key, values in maps.items():
        pairs = list(zip(values, truths, strict=True))
        tried = {float(limit): numpy.mean([iou(each >= limit, truth) for each, truth in pairs])
                 for limit in numpy.arange(0.1, 0.9, 0.05).round(2)}
        thresholds[key] = max(tried, key=lambda limit: tried[limit])
        best[key] = max(tried.values())
    return thresholds, max(best, key=lambda key: best[key])


def maps_of(recorders: list[Any], size: int) -> dict[tuple[str, str], list[Any]]:
    return {(kind, grids): [subject_map(recorder, kind, grids, size) for recorder in recorders]
            for kind in ("concept", "mask") for grids in GRIDS}


def ceiling(truth: Any, cells: int) -> float:
    """IoU of the exact mask after a layer's grid: what no mask of that grid can pass by much."""
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    small = adaptive_avg_pool2d(truth.float()[None, None], cells)
    return iou(interpolate(small, size=truth.shape, mode="bilinear", align_corners=False)[0, 0] >= 0.5, truth)


def mean_masks(count: int = 60) -> dict[str, Any]:
    """The mean mask (H, W) of each noun of the world, over individuals of their own."""
    import torch

    from comfyui_personalize.pocket.looks import SEEDS, individual_look
    from comfyui_personalize.pocket.subjects import NOUNS

    first = SEEDS["individuals"][1000]
    return {noun: torch.stack([torch.from_numpy(drawn_alone(individual_look(first + index, noun), "plain",
                                                            first + index)[1]) >= 0.5
                               for index in range(count)]).float().mean(0) for noun in NOUNS}


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
    grid = [ceiling(truth, 6) for truth in truths]
    return [*lines, f"| *exact mask through a grid of 6 x 6 (ceiling)* | 0.50 | {interval(grid)} | |", ""]


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


def draw(examples: list[tuple[Any, Any, Any, Any]]) -> None:
    """Pictures, their masks and both maps, one column per example."""
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
    figure.savefig(FIGURE, dpi=64)


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


def of_moved(model: Any, clip: Any, vae: Any, final: list[Case], thresholds: dict, bars: dict) -> list[str]:
    """Do masks follow a subject that stands where it never stood in training?"""
    shifted = [moved(case, index) for index, case in enumerate(final)]
    recorders = [look_once(model, clip, vae, case, index) for index, case in enumerate(shifted)]
    truths = [case.mask for case in shifted]
    maps = maps_of(recorders, truths[0].shape[0])
    lines = table("Moved: the same pictures, shifted by a sixth", maps, truths, thresholds, bars)
    stays = [[area_iou(values, case.mask) for values, case in zip(maps[kind, "finest scale"], final, strict=True)]
             for kind in LABELS]
    own = ", ".join(f"{LABELS[kind]} {interval(values)}" for kind, values in zip(LABELS, stays, strict=True))
    goes = [area_iou(values, truth) for values, truth in zip(maps["concept", "finest scale"], truths, strict=True)]
    verdict = "they follow the subject" if sum(goes) > sum(stays[0]) else \
        "in the window they show where this noun stands in the world, not where it stands in the picture"
    lines += [f"With the place where the subject stood before (finest scale, at the true area): {own}.", "",
              f"So {verdict}.", ""]
    lines += by_level(recorders, truths, "Moved")
    later = [look_once(model, clip, vae, case, index, LATER) for index, case in enumerate(shifted)]
    return lines + by_level(later, truths, "Moved, after the window", LATER)


def measure() -> str:
    """The whole report."""
    import torch

    with torch.inference_mode():
        model, clip, vae = load()
        development, final = cases(0, DEVELOPMENT), cases(DEVELOPMENT, FINAL)
        size = final[0].mask.shape[0]
        truths = [[case.mask for case in part] for part in (development, final)]
        seen = [[look_once(model, clip, vae, case, index) for index, case in enumerate(part)]
                for part in (development, final)]
        maps = [maps_of(recorders, size) for recorders in seen]
        thresholds, best = choose(maps[0], truths[0])
        bars = make_bars(development, final)
        lines = table("Seen: rendered pictures, exact masks", maps[1], truths[1], thresholds, bars)
        lines += by_level(seen[1], truths[1], "Seen")
        lines += of_moved(model, clip, vae, final, thresholds, bars)

        known = {context: backdrops(vae, context) for context in sorted({case.context for case in development + final})}
        shown = [[vae.decode(vae.encode(case.picture[None]))[0].clamp(0, 1) for case in part]
                 for part in (development, final)]
        new = [[novelty(picture, known[case.context]) for picture, case in zip(pictures, part, strict=True)]
               for pictures, part in zip(shown, (development, final), strict=True)]
        tried = {step / 100: sum(iou(each >= step / 100, truth) for each, truth in zip(new[0], truths[0], strict=True))
                 for step in range(4, 40, 2)}
        cut = max(tried, key=lambda step: tried[step])
        own = interval([iou(each >= cut, truth) for each, truth in zip(new[1], truths[1], strict=True)])

        pictures, recorders = zip(*(sample_case(model, clip, vae, case, index)
                                    for index, case in enumerate(final[:SAMPLED])), strict=True)
        segments = [novelty(picture, known[case.context]) >= cut
                    for picture, case in zip(pictures, final, strict=False)]
        sampled = maps_of(list(recorders), size)
        lines += table("Sampled with DCI: subject segmented", sampled, segments, thresholds, bars)
        examples = [(case.picture, case.mask.float(), maps[1]["concept", "finest scale"][index],
                     maps[1]["mask", "finest scale"][index]) for index, case in enumerate(final[:4])]
        examples += [(pictures[index], segments[index].float(), sampled["concept", "finest scale"][index],
                      sampled["mask", "finest scale"][index]) for index in range(4)]
        draw(examples)
    return HEADER.format(best=f"{LABELS[best[0]]}, {best[1]}", own=own) + "\n".join(lines)


HEADER = f"""# How well DCI's masks cover the subject

`python benchmarks/dci_mask_iou.py --write`, pocket model, DCI at its defaults (omega 1, window 0.3), prompts such as
'a {{{{name}}}} dog in the snow' for individuals that the model knows by name: nothing is trained. IoU at 96 x 96
pixels, means with 95 % bootstrap intervals over pictures. Thresholds were chosen on {DEVELOPMENT} other individuals in
other scenes, where the best map was: {{best}}.

*Seen*: both branches look at noised rendered pictures (the individual; the auxiliary noun in the same place) at
{len(LEVELS)} levels of the window; exact masks. *Sampled*: pictures sampled with DCI; the subject is what no backdrop
of the context explains, a segmentation whose own IoU on the rendered pictures is {{own}}.
*Moved*: as *seen*, the picture shifted left or right by {MOVED} pixels: the world never has objects there.
The world's objects all stand in the middle, so mean masks, which know nothing of the picture, are the bars to pass.

![masks](dci_mask_iou.png)

"""


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
