"""Which pictures are looked at, and which pixels of them are the subject's?"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

MOVED = 16
"""Pixels by which a case is shifted."""


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
        pixels, cover = picture_and_mask(look, context, seeds[20_000 + index])
        beside, _ = picture_and_mask(described_look(rng, other, set(EXCLUDED_COLOURS[context])), context,
                                     seeds[30_000 + index])
        picture, auxiliary = (torch.from_numpy(each.copy()).float() / 255 for each in (pixels, beside))
        found.append(Case(f"a {name} {look.noun} {PHRASES[context][0]}", name, look.noun, other, context, picture,
                          auxiliary, torch.from_numpy(cover) >= 0.5))
    return found


def picture_and_mask(look: Any, context: str, seed: int) -> tuple[Any, Any]:
    """A look by itself in the middle of a place: pixels (H, W, 3) uint8 and the exact mask (H, W) in 0..1."""
    from comfyui_personalize.benchmarks.drawn_scenes import draw_alone
    from comfyui_personalize.pocket.drawing import coverage

    pixels, labels = draw_alone(look, context, seed)
    return pixels, coverage(labels, 1)


def moved(case: Case, index: int) -> Case:
    """The case with everything shifted to the left or right by a sixth of the picture, its edge repeated."""
    import torch

    by = MOVED if index % 2 else -MOVED
    columns = (torch.arange(case.mask.shape[1]) - by).clamp(0, case.mask.shape[1] - 1)
    is_new = (torch.arange(case.mask.shape[1]) - by != columns)[None]
    return case._replace(picture=case.picture[:, columns], mask=case.mask[:, columns] & ~is_new)


def mean_masks(count: int = 60) -> dict[str, Any]:
    """The mean mask (H, W) of each noun of the world, over individuals of their own."""
    import torch

    from comfyui_personalize.pocket.looks import SEEDS, individual_look
    from comfyui_personalize.pocket.subjects import NOUNS

    first = SEEDS["individuals"][1000]
    return {noun: torch.stack([torch.from_numpy(picture_and_mask(individual_look(first + index, noun), "plain",
                                                                 first + index)[1]) >= 0.5
                               for index in range(count)]).float().mean(0) for noun in NOUNS}
