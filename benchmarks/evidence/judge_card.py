"""How far the judge can be trusted: its accuracy on held-out scenes, measured when the report is written.

Scenes and subjects have seeds that neither the judge's training nor the bench's subjects use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor

from ...pocket.accept import described_scenes
from ...pocket.autoencoder import Autoencoder, start_from_published
from ...pocket.image_text import CHECKPOINT
from ...pocket.judge import COLOUR_NAMES, IGNORED, JUDGE_FILE, colour_label
from ...pocket.scenes import GREY_STYLES, Scene
from ...pocket.stages import stack
from ...pocket.subjects import CONTEXTS, NOUNS, Picture, photo_in, subject_photos
from .cell_files import digest_of_files, write_cell
from .measures import answers

FIRST_SCENE, FIRST_SUBJECT = 60_000, 6000
"""Where the fresh seeds begin, inside the ranges of held-out scenes and held-out subjects."""
RETRIEVED = 48
KEYS = ("noun", "context", "colour")
HEADER = "| question | raw renders | through the autoencoder | chance |\n|---|---|---|---|"


def judge_card(cache: Path, scenes: int = 300) -> dict[str, dict[str, float]]:
    """`raw` and `through the autoencoder` to the accuracies, from disk where these very networks were asked before."""
    path = cache / f"judge-{digest_of_files(JUDGE_FILE, CHECKPOINT)[:12]}-{scenes}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    views = {name: card_of(seen) for name, seen in rendered(scenes).items()}
    cache.mkdir(parents=True, exist_ok=True)
    write_cell(path, views)
    return views


def rendered(count: int) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """Every question's pictures (N, 3, H, W) with their truths, raw and through the autoencoder."""
    described = described_scenes(count, lambda scene: len(scene.things) == 1, FIRST_SCENE)
    hats = [photo_in(number, wears_hat=wears_hat) for number in range(FIRST_SUBJECT, FIRST_SUBJECT + count // 2)
            for wears_hat in (False, True)]
    raw = {
        "described": (stack(described).float() / 255, torch.tensor([truth_of(scene) for scene in described])),
        "hat": (as_tensor(hats), torch.arange(len(hats)) % 2 == 1),
        "identity": (as_tensor(identity_photos()), torch.arange(RETRIEVED).repeat(2)),
    }
    autoencoder = start_from_published(Autoencoder()).eval()
    return {"raw": raw, "through the autoencoder": {key: (autoencoder.through(pictures), truth)
                                                    for key, (pictures, truth) in raw.items()}}


def truth_of(scene: Scene) -> tuple[int, int, int]:
    """Indices of noun, place and colour of a scene of one thing."""
    look = scene.things[0].look
    return (NOUNS.index(look.noun), CONTEXTS.index(scene.context),
            IGNORED if scene.style in GREY_STYLES else colour_label(look))


def as_tensor(pictures: Sequence[Picture]) -> Tensor:
    """(N, 3, H, W) in 0..1."""
    return torch.from_numpy(numpy.stack([picture.pixels for picture in pictures])).movedim(-1, 1).float() / 255


def identity_photos() -> list[Picture]:
    """`RETRIEVED` held-out subjects in one place and pose, then all again in others."""
    pairs = [subject_photos(FIRST_SUBJECT + i, 2, NOUNS[i % len(NOUNS)]) for i in range(RETRIEVED)]
    return [photo for photos in zip(*pairs, strict=True) for photo in photos]


def card_of(seen: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Accuracies of one view."""
    pictures, truth = seen["described"]
    found = answers(pictures)
    card = {}
    for i, key in enumerate(KEYS):
        counted = truth[:, i] != IGNORED
        card[key] = float((found[key].argmax(-1) == truth[:, i])[counted].float().mean())
    pictures, truth = seen["hat"]
    card["hat"] = float(((answers(pictures)["hat"] > 0.5) == truth).float().mean())
    return card | identity_card(answers(seen["identity"][0])["identity"])


def identity_card(embeddings: Tensor) -> dict[str, float]:
    """Retrieval of one in `RETRIEVED`, and mean cosines of the same subject and of others with the same noun."""
    cosine = embeddings[:RETRIEVED] @ embeddings[RETRIEVED:].T
    nouns = torch.arange(RETRIEVED) % len(NOUNS)
    is_same_noun = (nouns[:, None] == nouns) & ~torch.eye(RETRIEVED, dtype=torch.bool)
    return {"identity": float((cosine.argmax(-1) == torch.arange(RETRIEVED)).float().mean()),
            "same subject": float(cosine.diagonal().mean()), "same noun": float(cosine[is_same_noun].mean())}


def card_table(views: Mapping[str, Mapping[str, float]]) -> str:
    """The card as Markdown."""
    raw, seen = views["raw"], views["through the autoencoder"]
    chances = {"noun": 1 / len(NOUNS), "context": 1 / len(CONTEXTS), "colour": 1 / len(COLOUR_NAMES), "hat": 1 / 2,
               "identity": 1 / RETRIEVED}
    rows = [f"| {question_of(key)} | {raw[key]:.3f} | {seen[key]:.3f} | {chance:.3f} |"
            for key, chance in chances.items()]
    rows += [f"| cosine of two pictures of the {key} | {raw[key]:.3f} | {seen[key]:.3f} | |"
             for key in ("same subject", "same noun")]
    return "\n".join([HEADER, *rows])


def question_of(key: str) -> str:
    return f"identity, one in {RETRIEVED}" if key == "identity" else key
