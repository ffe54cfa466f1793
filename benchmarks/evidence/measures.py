"""What is looked at in pictures, by the pocket's judge: a network trained on the world that never saw a made picture.

| measure | what it is | better |
|---|---|---|
| fidelity | cosine of identity embeddings, pictures of the 25 prompts against the subject's photos | more |
| alignment | probability of the place and the colour that a prompt asks for, mean over prompts that ask | more |
| noun | probability of the class noun | more |
| copying | share of pictures whose place is a photo's although the prompt asks for another | less |
| drift | cosine of 'a {noun}' samples to the photos, above the untrained model's | less |
| diversity | mean distance of two pictures of 'a {V} {noun}', mean absolute difference of pixels at 24 x 24 | more |

Photos are compared after a pass through the autoencoder, as every picture has one behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ...pocket.judge import COLOUR_NAMES, Judge, load_judge, to_judge_size
from ...pocket.world_scenes import CONTEXTS
from ...pocket.world_shapes import NOUNS
from .bench import Case, Prompt

COARSE = 24


@dataclass(frozen=True, eq=False)
class Pictures:
    """What one method made of one subject at one checkpoint, all (N, 3, H, W) in 0..1.

    Attributes:
        prompted: one picture per prompt of the bench and seed, prompts first.
        plain: pictures of 'a {V} {noun}'.
        classes: pictures of 'a {noun}'.
    """

    prompted: Tensor
    plain: Tensor
    classes: Tensor


@cache
def judge() -> Judge:
    """The frozen judge."""
    return load_judge()


@torch.no_grad()
def answers(pictures: Tensor) -> dict[str, Tensor]:
    """The judge's probabilities for noun, context and colour, and its identity embedding."""
    found = [judge()(to_judge_size(part.clamp(0, 1))) for part in pictures.split(64)]
    joined = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    return {name: value if name == "identity" else value.softmax(-1) for name, value in joined.items()}


def measure(pictures: Pictures, references: Tensor, base_classes: Tensor, case: Case,
            prompts: Sequence[Prompt]) -> dict[str, float]:
    """Every measure of the table above.

    Args:
        pictures: what the method made.
        references: the photos through the autoencoder, (N, 3, H, W).
        base_classes: 'a {noun}' by the untrained model at the same seeds.
        case: the subject.
        prompts: those of `pictures.prompted`, repeated once per seed.
    """
    seen, own = answers(pictures.prompted), answers(references)["identity"]
    rounds = len(pictures.prompted) // len(prompts)
    asked = list(prompts) * rounds
    noun = NOUNS.index(case.subject.class_noun) if case.subject.class_noun in NOUNS else None
    drift = cosine(answers(pictures.classes)["identity"], own) - cosine(answers(base_classes)["identity"], own)
    return {
        "fidelity": cosine(seen["identity"], own),
        "alignment": alignment(seen, asked),
        "noun": float(seen["noun"][:, noun].mean()) if noun is not None else float("nan"),
        "copying": copying(seen["context"], asked, case.contexts),
        "drift": drift,
        "diversity": diversity(pictures.plain),
    }


def cosine(first: Tensor, second: Tensor) -> float:
    """Mean pairwise cosine of unit vectors (N, d) and (M, d)."""
    return float((first @ second.T).mean())


def alignment(seen: dict[str, Tensor], asked: Sequence[Prompt]) -> float:
    """Mean probability of what each prompt asks for: its place, its colour, or both one after the other."""
    places = [float(seen["context"][row, CONTEXTS.index(prompt.context)])
              for row, prompt in enumerate(asked) if prompt.context]
    colours = [float(seen["colour"][row, COLOUR_NAMES.index(prompt.colour)])
               for row, prompt in enumerate(asked) if prompt.colour]
    return sum(places + colours) / len(places + colours)


def copying(contexts: Tensor, asked: Sequence[Prompt], of_photos: Sequence[str]) -> float:
    """Share of the pictures that ask for a place no photo has, and show a photo's place."""
    shown = [CONTEXTS[int(row.argmax())] for row in contexts]
    elsewhere = [place for place, prompt in zip(shown, asked, strict=True)
                 if prompt.context and prompt.context not in of_photos]
    return sum(place in of_photos for place in elsewhere) / max(1, len(elsewhere))


def diversity(pictures: Tensor) -> float:
    """Mean absolute difference of two of the pictures, seen coarsely."""
    small = functional.interpolate(pictures, size=(COARSE, COARSE), mode="area").flatten(1)
    distances = torch.cdist(small, small, p=1) / small.shape[1]
    count = len(small)
    return float(distances.sum() / (count * (count - 1)))
