"""How far the judge can be trusted: its accuracy on held-out scenes, measured when the report is written.

Scenes and subjects have seeds that neither the judge's training nor the bench's subjects use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...pocket.accessory import ACCESSORY_FILE
from ...pocket.evaluate import held_out_captions, stack, truth_of
from ...pocket.judge import IGNORED, JUDGE_FILE, through_autoencoder
from ...pocket.published import CHECKPOINT, load_published_decoder, load_published_transform
from ...pocket.world import Scene, possible_contexts, subject, subject_scenes
from ...pocket.world_shapes import NOUNS
from .measures import answers

FIRST_SCENE, FIRST_SUBJECT = 60_000, 400
"""Where the fresh seeds begin, inside the ranges of held-out scenes and held-out subjects."""
RETRIEVED = 48
KEYS = ("noun", "context", "colour")
HEADER = "| question | raw renders | through the autoencoder | chance |\n|---|---|---|---|"


def judge_card(cache: Path, scenes: int = 300) -> dict[str, dict[str, float]]:
    """`raw` and `through the autoencoder` to the accuracies, from disk where these very networks were asked before."""
    path = cache / f"judge-{networks_digest()}-{scenes}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    views = {name: card_of(seen) for name, seen in rendered(scenes).items()}
    cache.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(views, indent=1) + "\n", encoding="utf-8")
    return views


def networks_digest() -> str:
    """Of the judges' weights and the autoencoder's file."""
    found = hashlib.sha256()
    for path in (JUDGE_FILE, ACCESSORY_FILE, CHECKPOINT):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def rendered(count: int) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """Every question's pictures (N, 3, H, W) with their truths, raw and through the autoencoder."""
    described = held_out_captions(count, FIRST_SCENE)
    hats = hat_scenes(count)
    questions = {
        "described": (described, torch.tensor([truth_of(scene) for scene in described])),
        "hat": (hats, torch.tensor([scene.has_hat for scene in hats])),
        "identity": (identity_scenes(), torch.arange(RETRIEVED).repeat(2)),
    }
    raw = {key: (stack(scenes), truth) for key, (scenes, truth) in questions.items()}
    transform, decoder = load_published_transform(), load_published_decoder()
    return {"raw": {key: (pictures.movedim(-1, 1), truth) for key, (pictures, truth) in raw.items()},
            "through the autoencoder": {key: (through_autoencoder(pictures, transform, decoder), truth)
                                        for key, (pictures, truth) in raw.items()}}


def hat_scenes(count: int) -> list[Scene]:
    """Held-out subjects, half of them with a hat on, the other half in the same places without."""
    scenes: list[Scene] = []
    for number in range(FIRST_SUBJECT, FIRST_SUBJECT + count // 2):
        scene = next(iter(subject_scenes(number, 1)))
        scenes += [scene, replace(scene, has_hat=True)]
    return scenes


def identity_scenes() -> list[Scene]:
    """`RETRIEVED` held-out subjects in one place and pose, then all again in others."""
    first, second = [], []
    for i in range(RETRIEVED):
        number, noun = FIRST_SUBJECT + i, NOUNS[i % len(NOUNS)]
        places = possible_contexts(subject(number, noun))
        scenes = list(subject_scenes(number, min(2, len(places)), noun))
        first.append(scenes[0])
        second.append(scenes[-1])
    return first + second


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
    chances = {"noun": 1 / len(NOUNS), "context": 1 / 11, "colour": 1 / 8, "hat": 1 / 2, "identity": 1 / RETRIEVED}
    rows = [f"| {question_of(key)} | {raw[key]:.3f} | {seen[key]:.3f} | {chance:.3f} |"
            for key, chance in chances.items()]
    rows += [f"| cosine of two pictures of the {key} | {raw[key]:.3f} | {seen[key]:.3f} | |"
             for key in ("same subject", "same noun")]
    return "\n".join([HEADER, *rows])


def question_of(key: str) -> str:
    return f"identity, one in {RETRIEVED}" if key == "identity" else key
