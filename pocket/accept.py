"""Is the model good enough to be published? Every requirement with its figure, by one command.

    python -m pocket.accept --state STATE --captions 500 --photos ../shared/photos

Hit rates are shares of what the judge says of true renders of the same scenes through the autoencoder, so that they
measure the generator alone; the table has both. Writes `accept.md`, `accept.json` and `accept.png` beside the state.
Exits with 1 where a requirement is not met.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .autoencoder import Autoencoder, psnr
from .config import CELLS
from .device import Machine, find_machine
from .diffusion import add_noise, alphas_cumprod
from .drawing import coverage, render
from .generator import Generator
from .judge import Judge, read, truth_of
from .learner import load_average
from .looks import SEEDS
from .scenes import Scene, training_scene
from .stages import load_autoencoder, stack, step_noise, write_sheet
from .state import load_state, state_path

WANTED: Final[dict[str, tuple[str, float]]] = {
    "class": ("at least", 0.98), "context": ("at least", 0.98), "colour": ("at least", 0.98),
    "style": ("at least", 0.98),
    "two things both right": ("at least", 0.9), "roughness": ("at most", 1.1), "edges": ("at least", 0.9),
    "kernel distance": ("at most", 2.0), "autoencoder, world": ("at least", 30.0),
    "autoencoder, photos": ("at least", 24.0), "mask of 'dog'": ("at least", 0.7),
}
JUDGED: Final = ("class", "context", "colour", "style")
"""Hit rates; of these the judge's own must be high enough."""
STEPS, CFG_SCALE, BATCH = 25, 3.0, 50
MASK_TIMESTEP: Final = 400
JUDGE_KNOWS: Final = 0.97
"""Share of true renders about which the judge must be right before what it says of others counts."""
DECIBELS: Final = ("autoencoder, world", "autoencoder, photos")
GENERATED, TRUE = "of generated", "of renders"


def described_scenes(count: int, keep: Callable[[Scene], bool] = lambda scene: True, start: int = 1000) -> list[Scene]:
    """Held-out scenes without named individuals, whose captions can be checked."""
    seeds, found = iter(SEEDS["held_out_scenes"][start:]), list[Scene]()
    while len(found) < count:
        scene = training_scene(next(seeds))
        if not any(thing.name for thing in scene.things) and keep(scene):
            found.append(scene)
    return found


def is_pair(scene: Scene) -> bool:
    """Two things of different nouns, in no style."""
    return len(scene.things) == 2 and scene.relation != "alike" and scene.style == "photo"


@torch.no_grad()
def generate(generator: Generator, autoencoder: Autoencoder, scenes: list[Scene], machine: Machine) -> Tensor:
    """One picture per caption, (N, 3, 96, 96) in [0, 1]."""
    pictures = []
    for start in range(0, len(scenes), BATCH):
        captions = [scene.caption for scene in scenes[start:start + BATCH]]
        with machine.autocast():
            latents = generator.draw(captions, steps=STEPS, cfg_scale=CFG_SCALE, seed=start)
        pictures.append(autoencoder.decode(latents.float()).clamp(0, 1))
    return torch.cat(pictures)


@torch.no_grad()
def answers_of(judge: Judge, pictures: Tensor) -> list[dict[str, Any]]:
    """The judge's readings."""
    found = []
    for part in pictures.split(100):
        answers = judge(part)
        found += [read(answers, row) for row in range(len(part))]
    return found


def hits(told: list[dict[str, Any]], seen: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of captions of which everything of a kind is right: class with number, place, colours, style."""
    right: dict[str, list[bool]] = {"class": [], "context": [], "colour": [], "style": [], "accessory": []}
    for truth, answer in zip(told, seen, strict=True):
        right["class"].append(truth["nouns"] == answer["nouns"])
        right["style"].append(truth["style"] == answer["style"])
        if truth["context"]:
            right["context"].append(truth["context"] == answer["context"])
        for kind, key in (("colour", "colours"), ("accessory", "accessories")):
            if truth[key]:
                right[kind].append(all(answer[key][noun] == value for noun, value in truth[key].items()))
    return {kind: float(np.mean(values)) for kind, values in right.items() if values}


def both_right(told: list[dict[str, Any]], seen: list[dict[str, Any]]) -> float:
    """Share of pairs in which both things are there, each in the colour that the caption says."""
    return float(np.mean([set(truth["nouns"]) <= set(answer["nouns"])
                          and all(answer["colours"][noun] == value for noun, value in truth["colours"].items())
                          for truth, answer in zip(told, seen, strict=True)]))


def roughness(pictures: Tensor) -> float:
    """Mean deviation within 5 x 5 pixels, over the flatter half of each picture's places."""
    grey = pictures.mean(1, keepdim=True)
    mean = functional.avg_pool2d(grey, 5, stride=1)
    spread = (functional.avg_pool2d(grey.square(), 5, stride=1) - mean.square()).clamp(min=0).sqrt().flatten(1)
    return float(spread.sort(dim=1).values[:, :spread.shape[1] // 2].mean())


def edges(pictures: Tensor) -> float:
    """Mean of the strongest hundredth of the differences of neighbouring pixels."""
    grey = pictures.mean(1)
    steps = torch.cat([grey.diff(dim=-1).abs().flatten(1), grey.diff(dim=-2).abs().flatten(1)], dim=1)
    return float(steps.topk(steps.shape[1] // 100, dim=1).values.mean())


@torch.no_grad()
def kernel_distance(judge: Judge, first: Tensor, second: Tensor) -> float:
    """Squared maximum mean discrepancy of the judge's features, cubic kernel, biased (never negative).

    The unit is the features' mean square of `second`: distances to the same pictures can be compared.

    Source: Binkowski et al. 2018 (KID), with features of this world's judge.
    """
    x, y = (torch.cat([judge.features((part - 0.5) * 4) for part in side.split(100)]).double()
            for side in (first, second))
    scale = y.square().mean()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / (a.shape[1] * scale) + 1) ** 3

    return float(kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean())


@torch.no_grad()
def dog_masks(generator: Generator, autoencoder: Autoencoder, machine: Machine, count: int = 60) -> dict[str, float]:
    """IoU of the 'dog' token's attention at 12 x 12 with the dog's true mask, and with that mask moved five cells.

    The cells of highest mean probability, as many as the true mask has; heads and layers of the finest level averaged.
    """
    def has_a_dog(scene: Scene) -> bool:
        return scene.style == "photo" and [t.look.noun for t in scene.things].count("dog") == 1

    found, moved = [], []
    for scene in described_scenes(count, has_a_dog, start=20_000):
        label = next(i for i, thing in enumerate(scene.things) if thing.look.noun == "dog") + 1
        picture, labels = render(scene)
        truth = torch.from_numpy(coverage(labels, label, CELLS)) > 0.5
        words = generator.text.words
        rows = torch.from_numpy(words.encode(scene.caption))[None].to(machine.device)
        place = int((rows[0] == words.rows["dog"][0]).nonzero()[0])
        pixels = machine.pictures(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None])
        code = autoencoder.encode(pixels).float()
        noise, _ = step_noise(tuple(code.shape), scene.seed % 10**6, 10, machine.device)
        abar = alphas_cumprod()[MASK_TIMESTEP].view(1, 1, 1, 1).to(machine.device)
        _, seen = generator.attended(add_noise(code, noise, abar),
                                     torch.tensor([MASK_TIMESTEP], device=machine.device), rows)
        maps = [attention[0, :, :, place].float().mean(0) for attention in seen if attention.shape[2] == CELLS**2]
        mask = strongest(torch.stack(maps).mean(0).cpu(), int(truth.sum())).view(CELLS, CELLS)
        found.append(iou(mask, truth))
        moved.append(iou(mask, truth.roll(5, dims=1)))
    return {"mask of 'dog'": float(np.mean(found)), "mask of 'dog', moved control": float(np.mean(moved))}


def strongest(values: Tensor, count: int) -> Tensor:
    """The `count` strongest (one at least), as booleans of the same shape (N,)."""
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[values.topk(max(1, count)).indices] = True
    return mask


def iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two boolean masks."""
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


@torch.no_grad()
def photo_psnr(autoencoder: Autoencoder, folder: Path, machine: Machine, size: int = 128) -> float:
    """Mean over the photos of a folder of folders, squared to `size` pixels; no training saw any."""
    values = []
    for path in sorted(folder.glob("*/*.jpg")):
        photo = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
        pixels = machine.pictures(torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None])
        values.append(psnr(autoencoder.decode(autoencoder.encode(pixels)), pixels))
    return float(np.mean(values))


def measure(path: Path, captions: int, photos: Path | None, machine: Machine) -> dict[str, float]:
    """All figures of a state's averaged networks; draws `accept.png` beside the state."""
    state, autoencoder = load_state(path), load_autoencoder(path, machine)
    generator = machine.place(load_average(Generator(), state["generator"]))
    judge = machine.place(load_average(Judge(), state["judge"]))
    scenes, pairs = described_scenes(captions), described_scenes(captions // 2, is_pair, start=50_000)
    figures: dict[str, float] = {}
    made: dict[str, tuple[Tensor, Tensor]] = {}
    for name, group in (("all", scenes), ("pairs", pairs)):
        true = autoencoder.through(machine.pictures(stack(group)))
        made[name] = (generate(generator, autoencoder, group, machine), true)
    told, (drawn, true) = [truth_of(scene) for scene in scenes], made["all"]
    reached, possible = hits(told, answers_of(judge, drawn)), hits(told, answers_of(judge, true))
    for kind, value in reached.items():
        figures |= ratio(kind, value, possible[kind])
    told = [truth_of(scene) for scene in pairs]
    figures["two things both right"] = both_right(told, answers_of(judge, made["pairs"][0]))
    figures[f"two things both right, {TRUE}"] = both_right(told, answers_of(judge, made["pairs"][1]))
    figures |= ratio("roughness", roughness(drawn), roughness(true)) | ratio("edges", edges(drawn), edges(true))
    figures |= ratio("kernel distance", kernel_distance(judge, drawn[::2], true[1::2]),
                     kernel_distance(judge, true[::2], true[1::2]))
    world = machine.pictures(stack([training_scene(seed) for seed in SEEDS["held_out_scenes"][:200]]))
    figures["autoencoder, world"] = psnr(autoencoder.through(world), world)
    if photos is not None and photos.is_dir():
        figures["autoencoder, photos"] = photo_psnr(autoencoder, photos, machine)
    figures |= dog_masks(generator, autoencoder, machine)
    write_sheet(torch.cat([drawn[:32], true[:32]]), path.with_name("accept.png"), columns=16)
    return figures


def ratio(name: str, drawn: float, true: float) -> dict[str, float]:
    """A figure of generated pictures in units of that of true renders through the autoencoder, with both."""
    return {name: drawn / max(true, 1e-12), f"{name}, {GENERATED}": drawn, f"{name}, {TRUE}": true}


def is_met(name: str, figures: dict[str, float]) -> bool:
    """Whether a requirement is met. One that was not measured is not, nor one of which the judge knows too little."""
    direction, limit = WANTED[name]
    value = figures.get(name, float("nan"))
    if name in JUDGED and figures.get(f"{name}, {TRUE}", 1.0) < JUDGE_KNOWS:
        return False
    is_good = value >= limit if direction == "at least" else value <= limit
    return is_good and (name != "mask of 'dog'" or value > figures[f"{name}, moved control"])


def table(figures: dict[str, float]) -> str:
    """Markdown: every requirement with its figure, of which it is the ratio, and whether it is met."""
    lines = ["| | wanted | found | of generated pictures | of true renders through the autoencoder | |",
             "|---|---|---|---|---|---|"]
    for name, (direction, limit) in WANTED.items():
        unit = " dB" if name in DECIBELS else ""
        parts = [figures.get(f"{name}, {part}") for part in (GENERATED, TRUE)]
        if name == "mask of 'dog'":
            parts = [None, figures.get(f"{name}, moved control")]
        shown = ["" if part is None else f"{part:.4g}" for part in parts]
        shown[1] += " (moved control)" if shown[1] and name == "mask of 'dog'" else ""
        value = f"{figures[name]:.3f}{unit}" if name in figures else "not measured"
        lines.append(f"| {name} | {direction} {limit:g}{unit} | {value} | {shown[0]} | {shown[1]} | "
                     f"{'met' if is_met(name, figures) else '**not met**'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state")
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    given = parser.parse_args()
    path = state_path(given.state)
    figures = measure(path, given.captions, given.photos, find_machine())
    path.with_name("accept.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    path.with_name("accept.md").write_text(table(figures))
    print(table(figures))
    raise SystemExit(not all(is_met(name, figures) for name in WANTED))


if __name__ == "__main__":
    main()
