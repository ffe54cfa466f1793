"""CLIP-I, CLIP-T, DINO and drift: cosines of pictures with photos, and of pictures with prompts.

Source: DreamBooth (arXiv:2208.12242), 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import require
from ...model.image_text import ImageTextEncoder, unit
from ...wording import fold
from .encoders import ImageEncoder, Pictures, embed_each


def mean_pairwise_cosine(first: Tensor, second: Tensor) -> float:
    """mean over i, j of cos(a_i, b_j); (N, P) and (M, P).

    Raises:
        InputError: when either is empty, or their widths differ.
    """
    return float(mean_cosines(first, second).mean())


def mean_cosines(first: Tensor, second: Tensor) -> Tensor:
    """For each a_i the mean over j of cos(a_i, b_j): (N, P) and (M, P) to (N,).

    Raises:
        InputError: as `mean_pairwise_cosine`.
    """
    for name, vectors in (("generated", first), ("references", second)):
        require(len(vectors) > 0, name, "no picture", "1 or more pictures", "Generate or connect some.")
    require(first.shape[-1] == second.shape[-1], "embeddings", f"{first.shape[-1]} and {second.shape[-1]} dimensions",
            "vectors of one encoder", "Embed both with the same encoder.")
    return (unit(first) @ unit(second).T).mean(1)


def image_similarity(encoder: ImageEncoder, generated: Pictures, references: Pictures) -> float:
    """CLIP-I with a CLIP, DINO with a DINO: mean cosine of every generated picture with every reference.

    Args:
        references: the subject's photos.
    """
    return float(picture_similarities(encoder, generated, references).mean())


def picture_similarities(encoder: ImageEncoder, generated: Pictures, references: Pictures) -> Tensor:
    """`image_similarity` of each generated picture alone, (N,)."""
    return mean_cosines(embed_each(encoder, generated), embed_each(encoder, references))


def prompt_alignment(encoder: ImageTextEncoder, generated: Pictures, prompts: Sequence[str]) -> float:
    """CLIP-T: mean cosine of picture i with prompt i.

    Args:
        prompts: without the identifier (`without_identifier`), one per picture, or one for all of them.
    """
    return float(prompt_alignments(encoder, generated, prompts).mean())


@torch.no_grad()
def prompt_alignments(encoder: ImageTextEncoder, generated: Pictures, prompts: Sequence[str]) -> Tensor:
    """`prompt_alignment` of each picture alone, (N,)."""
    require(len(prompts) in (1, len(generated)), "prompts", f"{len(prompts)} prompts for {len(generated)} pictures",
            "one prompt per picture, or one for all", "Repeat the prompts in the pictures' order.")
    pictures = embed_each(encoder, generated)
    require(len(pictures) > 0, "generated", "no picture", "1 or more pictures", "Generate some.")
    return (pictures * encoder.embed_texts(list(prompts)).to(pictures)).sum(-1)


def drift(encoder: ImageEncoder, class_samples: Pictures, references: Pictures, before: Pictures) -> float:
    """How much more 'a {noun}' looks like the subject than it did before training; 0 is none, lower is better.

    sim(after, references) - sim(before, references); the first term alone is DreamBooth's PRES.

    Args:
        class_samples: pictures of 'a {noun}' by the trained model.
        before: pictures of the same prompt and seeds by the base model.
    """
    return image_similarity(encoder, class_samples, references) - image_similarity(encoder, before, references)


def without_identifier(prompt: str, identifier: str) -> str:
    """The prompt as CLIP-T wants it, 'a sks dog in the snow' -> 'a dog in the snow': a word that no CLIP knows would
    only add noise."""
    words, unwanted = prompt.split(), fold(identifier).split()
    for start in range(len(words) - len(unwanted), -1, -1):
        if unwanted and list(map(fold, words[start:start + len(unwanted)])) == unwanted:
            del words[start:start + len(unwanted)]
    return " ".join(words)
