"""What is looked at in pictures, by the pocket's judge: a network trained on the world that never saw a made picture.

| measure | what it is | better |
|---|---|---|
| fidelity | cosine of identity embeddings, pictures of the 25 prompts against the subject's photos | more |
| alignment | probability of what a prompt asks for (place, colour, hat): mean within, then over prompts | more |
| noun | probability of the subject's own class noun, whatever noun was trained with | more |
| class, context, colour, hat | share of the pictures whose likeliest answer is right, where it is asked for | more |
| attribute | colour and hat together, over the prompts that ask for one | more |
| copying | share of the pictures that ask for a place no photo has, and show a photo's place | less |
| overfitting | probability of photos' places in 'a {V} {noun}', which asks for none, above the untrained | less |
| drift | cosine of 'a {noun}' samples to the photos, above the untrained model's | less |
| diversity | mean distance of two pictures of 'a {V} {noun}', mean absolute difference of pixels at 24 x 24 | more |

Photos are compared after a pass through the autoencoder, as every picture has one behind it. `noun` and `class` ask for
what the subject is; where a method was trained with another noun, `drift` is that noun's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ...pocket.config import SIZE
from ...pocket.judge import COLOUR_NAMES, WORN, Judge, load_judge
from ...pocket.subjects import CONTEXTS, NOUNS, class_noun
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
    """The judge's probabilities for noun, context and colour (N, ·), its identity embedding, and a hat's (N,).

    A noun's is that of its being there at all, as a share of all nouns'; colour and hat are the likeliest noun's.
    """
    small = functional.interpolate(pictures.clamp(0, 1), size=(SIZE, SIZE), mode="bilinear", antialias=True)
    found = [judge()(part) for part in small.split(64)]
    joined = {name: torch.cat([part[name] for part in found]).float() for name in found[0]}
    there = 1 - joined["count"].softmax(-1)[..., 0]
    likeliest = torch.arange(len(there)), there.argmax(-1)
    return {"noun": there / there.sum(-1, keepdim=True), "context": joined["context"].softmax(-1),
            "colour": joined["colour"][likeliest].softmax(-1),
            "hat": joined["accessory"][likeliest].softmax(-1)[:, WORN.index("hat")], "identity": joined["identity"]}


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
    seen, own, base = answers(pictures.prompted), answers(references)["identity"], answers(base_classes)
    asked = list(prompts) * (len(pictures.prompted) // len(prompts))
    noun = NOUNS.index(class_noun(case.number))
    return {
        "fidelity": cosine(seen["identity"], own),
        "alignment": alignment(seen, asked),
        "noun": float(seen["noun"][:, noun].mean()),
        "class": float((seen["noun"].argmax(-1) == noun).float().mean()),
        **accuracies(seen, asked),
        "copying": copying(seen["context"], asked, case.contexts),
        "overfitting": place_share(answers(pictures.plain), case.contexts) - place_share(base, case.contexts),
        "drift": cosine(answers(pictures.classes)["identity"], own) - cosine(base["identity"], own),
        "diversity": diversity(pictures.plain),
    }


def cosine(first: Tensor, second: Tensor) -> float:
    """Mean pairwise cosine of unit vectors (N, d) and (M, d)."""
    return float((first @ second.T).mean())


def asked_for(seen: dict[str, Tensor], row: int, prompt: Prompt) -> dict[str, tuple[float, bool]]:
    """Probability, and whether it is the likeliest answer, of each thing that a prompt asks for."""
    found: dict[str, tuple[float, bool]] = {}
    for key, names, wanted in (("context", CONTEXTS, prompt.context), ("colour", COLOUR_NAMES, prompt.colour)):
        if wanted is not None:
            place = names.index(wanted)
            found[key] = (float(seen[key][row, place]), int(seen[key][row].argmax()) == place)
    if prompt.asks_hat:
        found["hat"] = (float(seen["hat"][row]), bool(seen["hat"][row] > 0.5))
    return found


def alignment(seen: dict[str, Tensor], asked: Sequence[Prompt]) -> float:
    """Mean over the prompts of the mean probability of what each asks for."""
    found = [asked_for(seen, row, prompt) for row, prompt in enumerate(asked)]
    shares = [sum(share for share, _ in each.values()) / len(each) for each in found if each]
    return sum(shares) / len(shares)


def accuracies(seen: dict[str, Tensor], asked: Sequence[Prompt]) -> dict[str, float]:
    """Share of right answers for context, colour and hat, and for the last two together; NaN where none was asked."""
    found = [asked_for(seen, row, prompt) for row, prompt in enumerate(asked)]
    right = {key: [float(each[key][1]) for each in found if key in each] for key in ("context", "colour", "hat")}
    right["attribute"] = right["colour"] + right["hat"]
    return {key: sum(values) / len(values) if values else math.nan for key, values in right.items()}


def copying(contexts: Tensor, asked: Sequence[Prompt], of_photos: Sequence[str]) -> float:
    """Share of the pictures that ask for a place no photo has, and show a photo's place."""
    shown = [CONTEXTS[int(row.argmax())] for row in contexts]
    elsewhere = [place for place, prompt in zip(shown, asked, strict=True)
                 if prompt.context and prompt.context not in of_photos]
    return sum(place in of_photos for place in elsewhere) / max(1, len(elsewhere))


def place_share(seen: dict[str, Tensor], of_photos: Sequence[str]) -> float:
    """Mean probability that a picture stands in one of the photos' places."""
    places = sorted({CONTEXTS.index(place) for place in of_photos})
    return float(seen["context"][:, places].sum(-1).mean())


def diversity(pictures: Tensor) -> float:
    """Mean absolute difference of two of the pictures, seen coarsely."""
    small = functional.interpolate(pictures, size=(COARSE, COARSE), mode="area").flatten(1)
    distances = torch.cdist(small, small, p=1) / small.shape[1]
    count = len(small)
    return float(distances.sum() / (count * (count - 1)))
