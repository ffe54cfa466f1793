"""How good is a personalization? Fidelity to the subject, alignment with the prompt, drift of the class.

A method is judged by its *curve* of fidelity against alignment over training steps, never by one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from .errors import InputError, require
from .image_text import ImageTextEncoder, Preparation, read_config, unit
from .subject import fill

NOUN_FILE = Path(__file__).with_name("class_nouns.txt")
NOUN_TEMPLATE = "a {noun}"
TEMPERATURE = 0.01
"""CLIP's own, at the end of its training."""


class ImageEncoder(Protocol):
    """Anything that gives pictures unit vectors: a CLIP, or a DINO."""

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, 3) in 0..1 -> (N, P) unit vectors."""
        ...


def mean_pairwise_cosine(first: Tensor, second: Tensor) -> float:
    """mean over i, j of cos(a_i, b_j); (N, P) and (M, P).

    Raises:
        InputError: when either is empty, or their widths differ.
    """
    for name, vectors in (("generated", first), ("references", second)):
        require(len(vectors) > 0, name, "no picture", "1 or more pictures", "Generate or connect some.")
    require(first.shape[-1] == second.shape[-1], "embeddings", f"{first.shape[-1]} and {second.shape[-1]} dimensions",
            "vectors of one encoder", "Embed both with the same encoder.")
    return float((unit(first) @ unit(second).T).mean())


def image_similarity(encoder: ImageEncoder, generated: Sequence[Tensor], references: Sequence[Tensor]) -> float:
    """CLIP-I with a CLIP, DINO with a DINO: mean cosine of every generated picture with every reference.

    Args:
        generated: pictures (H, W, 3) in 0..1, of any sizes.
        references: the subject's photos.

    Source: DreamBooth (arXiv:2208.12242), 4.2.
    """
    return mean_pairwise_cosine(embed_each(encoder, generated), embed_each(encoder, references))


def prompt_alignment(encoder: ImageTextEncoder, generated: Sequence[Tensor], prompts: Sequence[str]) -> float:
    """CLIP-T: mean cosine of picture i with prompt i.

    Args:
        prompts: without the identifier (`without_identifier`), one per picture, or one for all of them.

    Source: DreamBooth (arXiv:2208.12242), 4.2.
    """
    require(len(prompts) in (1, len(generated)), "prompts", f"{len(prompts)} prompts for {len(generated)} pictures",
            "one prompt per picture, or one for all", "Repeat the prompts in the pictures' order.")
    pictures = embed_each(encoder, generated)
    require(len(pictures) > 0, "generated", "no picture", "1 or more pictures", "Generate some.")
    with torch.no_grad():
        texts = encoder.embed_texts(list(prompts)).to(pictures)
    return float((pictures * texts).sum(-1).mean())


def drift(encoder: ImageEncoder, class_samples: Sequence[Tensor], references: Sequence[Tensor],
          before: Sequence[Tensor]) -> float:
    """How much more 'a {noun}' looks like the subject than it did before training; 0 is none, lower is better.

    sim(after, references) - sim(before, references); the first term alone is DreamBooth's PRES.

    Args:
        class_samples: pictures of 'a {noun}' by the trained model.
        before: pictures of the same prompt and seeds by the base model.
    """
    return image_similarity(encoder, class_samples, references) - image_similarity(encoder, before, references)


def embed_each(encoder: ImageEncoder, pictures: Sequence[Tensor]) -> Tensor:
    """(N, P) for pictures of any sizes; those of one size go through together."""
    if not pictures:
        return torch.zeros(0, 1)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, picture in enumerate(pictures):
        by_shape.setdefault(tuple(picture.shape), []).append(i)
    rows: dict[int, Tensor] = {}
    for indices in by_shape.values():
        embedded = encoder.embed_images(torch.stack([pictures[i] for i in indices])).cpu()
        rows |= zip(indices, embedded, strict=True)
    return torch.stack([rows[i] for i in range(len(pictures))])


def without_identifier(prompt: str, identifier: str) -> str:
    """The prompt as CLIP-T wants it, 'a sks dog in the snow' -> 'a dog in the snow': a word that no CLIP knows would
    only add noise."""
    words, unwanted = prompt.split(), identifier.split()
    for start in range(len(words) - len(unwanted), -1, -1):
        if unwanted and words[start:start + len(unwanted)] == unwanted:
            del words[start:start + len(unwanted)]
    return " ".join(words)


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


class TransformersImageEncoder:
    """An image encoder in transformers' folder format, such as DINO or DINOv2: the class token of the last layer."""

    KINDS = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")

    def __init__(self, model: Any, prepare: Preparation):
        self.model, self.prepare = model, prepare

    @torch.no_grad()
    def embed_images(self, pixels: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        outputs = self.model(pixel_values=self.prepare(pixels).to(parameter.device, parameter.dtype))
        return unit(outputs.last_hidden_state[:, 0])


def load_image_encoder(folder: str | Path, device: str | torch.device = "cpu") -> TransformersImageEncoder:
    """The DINO of a transformers folder, in float32; nothing is downloaded.

    Raises:
        InputError: for a folder that is missing or holds something else.
    """
    place = Path(folder).expanduser()
    config = read_config(place)
    kind = config.get("model_type")
    require(kind in TransformersImageEncoder.KINDS, "path", f"a model of type {kind!r} in {place.name}",
            f"one of {', '.join(TransformersImageEncoder.KINDS)}", "Choose the folder of a DINO, e.g. dino-vits16.")
    from transformers import AutoModel

    with torch.inference_mode(False):
        try:
            model = AutoModel.from_pretrained(str(place), local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as reason:
            raise InputError("path", f"{place.name}: {reason}", "a whole transformers folder",
                             "Download or save it again.") from reason
        model = model.to(device).eval().requires_grad_(False)
    return TransformersImageEncoder(model, Preparation.of_folder(place, int(config.get("image_size", 224))))
