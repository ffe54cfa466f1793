"""Which class noun names the photos? Zero-shot classification by a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ...errors import require
from ...model.image_text import ImageTextEncoder
from ...subject.subject import fill
from .encoders import embed_each

NOUN_FILE = Path(__file__).resolve().parent.parent / "class_nouns.txt"
NOUN_TEMPLATE = "a {noun}"
TEMPERATURE = 0.01
"""CLIP's own, at the end of its training."""


@dataclass(frozen=True, kw_only=True)
class NounScore:
    """How well a class noun names the photos.

    Attributes:
        cosine: mean over the photos of cos(I(photo), T('a {noun}')).
        probability: share among all nouns asked, softmax at CLIP's temperature.
    """

    noun: str
    cosine: float
    probability: float


@cache
def class_nouns() -> tuple[str, ...]:
    """The built-in common nouns."""
    lines = NOUN_FILE.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


@torch.no_grad()
def rank_nouns(encoder: ImageTextEncoder, photos: Sequence[Tensor], nouns: Sequence[str],
               template: str = NOUN_TEMPLATE) -> list[NounScore]:
    """The nouns, best first, by zero-shot classification of the photos together.

    Source: DreamBooth (arXiv:2208.12242), 3.2: the class noun may be 'obtained using a classifier'; CLIP
    (arXiv:2103.00020), 3.1, for the classifier.

    Raises:
        InputError: without photos, nouns, or a place for the noun in the template.
    """
    require(bool(photos), "images", "no photo", "1 or more photos", "Connect photos of the subject.")
    require(len(set(nouns)) > 1, "nouns", f"{len(set(nouns))} nouns", "2 or more nouns to choose from",
            "Write several, one per line, or clear the field for the built-in list.")
    require("{noun}" in template, "template", repr(template), "a text with {noun}", f"Write {NOUN_TEMPLATE!r}.")
    asked = list(dict.fromkeys(nouns))
    texts = encoder.embed_texts([fill(template, "", noun) for noun in asked]).cpu()
    cosines = (embed_each(encoder, photos) @ texts.T).mean(0)
    shares = (cosines / TEMPERATURE).softmax(0)
    order = cosines.argsort(descending=True, stable=True).tolist()
    return [NounScore(noun=asked[i], cosine=float(cosines[i]), probability=float(shares[i])) for i in order]
