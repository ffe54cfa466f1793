"""Two objects in one prompt: could this bench tell whether two learned words bleed into each other?

It could if the pocket model showed two objects when asked for two. So first the ruler is tried on drawn pictures of two
objects and of one, then the untrained model is asked for pairs of its own nouns. Nothing is trained.

    python -m comfyui_personalize.benchmarks.evidence.two_objects [--write]
"""

from __future__ import annotations

import argparse
import logging
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from ...pocket.config import SIZE
from ...pocket.looks import Look, described_look
from ...pocket.placing import Spot
from ...pocket.subjects import NOUNS, PHRASES, look_of
from ...tools.install_comfyui import ROOT
from ..drawn_scenes import draw_alone, draw_scene
from .comfy_process import load_pocket, start_comfyui
from .measures import answers

RESULTS = ROOT / "benchmarks" / "results" / "two_objects.md"
FIRST_SUBJECT = 2000
"""Subjects from here on are only in this file."""
PLACES = ("snow", "beach", "night", "kitchen", "desert")
TOPS, LEFTS = (26, 30, 34), ((0, 2, 5), (43, 46, 48))
"""Where the crops of the left and of the right begin, in pixels."""
PAIRS = tuple(combinations(NOUNS, 2))
HEAD = """# Two objects in one prompt

Made by `{command}`:
{count} pairs of class nouns, one picture each. *Apart*: the judge's likeliest noun is one of the pair on the left and
the other on the right, in either order; *whole*: its likeliest noun for the whole picture.

| pictures | both, apart | whole: the first | whole: the second | whole: another |
|---|---|---|---|---|
"""


def draw_two(first: Look, second: Look, place: str, seed: int) -> Tensor:
    """Two objects side by side at half their size, (3, H, W) in 0..1."""
    rng = random.Random(seed)
    return as_tensor(draw_scene([(look, Spot(x=middle + rng.uniform(-0.03, 0.03), y=rng.uniform(0.57, 0.66),
                                             scale=rng.uniform(0.17, 0.2), angle=rng.uniform(-0.08, 0.08)))
                                 for look, middle in ((first, 0.27), (second, 0.73))], place, seed)[0])


def as_tensor(pixels: ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) in 0..1."""
    return torch.from_numpy(pixels.copy()).movedim(-1, 0).float() / 255


def some_look(number: int, noun: str) -> Look:
    """A described look or a subject, in turn."""
    if number % 2:
        return look_of(FIRST_SUBJECT + number, noun)
    return described_look(random.Random(number), noun, set())


def sides(pictures: Tensor) -> Tensor:
    """Square crops of half the side around where two objects stand beside each other, (N, 2, crops, 3, H/2, W/2)."""
    half = SIZE // 2
    found = [torch.stack([pictures[..., top:top + half, left:left + half] for top in TOPS for left in lefts], dim=1)
             for lefts in LEFTS]
    return torch.stack(found, dim=1)


@torch.no_grad()
def nouns_of(pictures: Tensor) -> Tensor:
    """The likeliest noun on the left, on the right and of the whole, (N, 3): means over the crops of a side."""
    crops = sides(pictures)
    halves = answers(crops.flatten(0, 2))["noun"].unflatten(0, crops.shape[:3]).mean(2).argmax(-1)
    whole = answers(pictures)["noun"].argmax(-1)
    return torch.cat([halves, whole[:, None]], dim=1)


def wanted(pairs: tuple[tuple[str, str], ...] = PAIRS) -> Tensor:
    """Indices of the asked nouns, (N, 2)."""
    return torch.tensor([[NOUNS.index(noun) for noun in pair] for pair in pairs])


def shares(found: Tensor, pairs: Tensor) -> list[float]:
    """The table's columns: both apart, then what the whole looks like."""
    apart = (found[:, :2] == pairs).all(1) | (found[:, :2] == pairs.flip(1)).all(1)
    whole = [found[:, 2] == pairs[:, side] for side in (0, 1)]
    columns = [apart, *whole, ~(whole[0] | whole[1])]
    return [float(column.float().mean()) for column in columns]


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """Every pair drawn together, and the first of every pair alone."""
    looks = [[some_look(seed + 2 * i + k, noun) for k, noun in enumerate(pair)] for i, pair in enumerate(PAIRS)]
    places = [PLACES[i % len(PLACES)] for i in range(len(PAIRS))]
    shown = list(enumerate(zip(looks, places, strict=True)))
    two = [draw_two(first, second, place, seed + i) for i, ((first, second), place) in shown]
    one = [as_tensor(draw_alone(first, place, seed + i)[0]) for i, ((first, _), place) in shown]
    return torch.stack(two), torch.stack(one)


def row(name: str, pictures: Tensor) -> str:
    """One line of the table."""
    found = shares(nouns_of(pictures.clamp(0, 1)), wanted())
    return f"| {name} | " + " | ".join(f"{share:.2f}" for share in found) + " |"


def asked() -> list[str]:
    """The prompts, in the order of `PAIRS`."""
    return [f"a {first} and a {second} {PHRASES[PLACES[i % len(PLACES)]]}" for i, (first, second) in enumerate(PAIRS)]


def table(generated: Tensor, command: str) -> str:
    """The report: the ruler on drawn pictures, then the model."""
    two, one = drawn(seed=0)
    rows = [row("drawn, two objects", two), row("drawn, the first alone", one),
            row("untrained model, 'a X and a Y' in a place", generated)]
    return HEAD.format(command=command, count=len(PAIRS)) + "\n".join(rows) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="two_objects", description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of the model's pictures here")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    start_comfyui(ROOT / ".evidence" / "comfyui")
    from .cells import sample, write_sheet

    loaded: Any = load_pocket()
    prompts = asked()
    generated = torch.cat([sample(loaded, prompts[start:start + 15], seed=start) for start in
                           range(0, len(prompts), 15)])
    if given.sheet:
        write_sheet(generated, given.sheet, columns=9)
    page = table(generated, "python -m comfyui_personalize.benchmarks.evidence.two_objects --write")
    print(page)
    if given.write:
        RESULTS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
