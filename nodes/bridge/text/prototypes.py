"""Subjects, an image-text encoder and the CLIP that will be trained with, to prototypes of the identifiers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....core.errors import require
from ....core.learning.prototype import Prototype, PrototypeConfig, fit_prototype, prototype_target
from ....core.learning.token_vectors import TokenVectorsConfig, start_vectors
from ....core.model.image_text import ImageTextEncoder
from ....core.subject.subject import Photo, Subject
from ..model.hashes import weights_hash
from ..sockets import TokenVectorsSettings
from .encoder import ComfyTextEncoder, check_learns_vectors

SAME_TABLE = 0.02
"""Largest difference of two copies of one token table, in parts of its deviation: one of them may be float16."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One identifier, and what is seen of it: photos, and masks (H, W) of some or all of them."""

    identifier: str
    class_noun: str
    photos: tuple[Photo, ...]
    masks: tuple[Tensor | None, ...]


def looks(subjects: Iterable[Subject]) -> list[Look]:
    """Every identifier with its photos; several objects of one photo have a mask each."""
    found = []
    for subject in subjects:
        for number, (identifier, noun) in enumerate(subject.names):
            masks = tuple(photo.object_masks[number] if subject.objects else photo.mask for photo in subject.photos)
            found.append(Look(identifier=identifier, class_noun=noun, photos=subject.photos, masks=masks))
    return found


def prototype_vectors(encoder: ImageTextEncoder, clip: Any, subject: Look, config: TokenVectorsConfig,
                      fitting: PrototypeConfig) -> tuple[TokenVectorsSettings, Prototype]:
    """An identifier's prototype as vectors for a trainer, and how well it fits.

    Text encoders that the image-text encoder does not read with (SDXL's second one) start at the class noun.

    Raises:
        InputError: where no text encoder of the CLIP has the tokens of the image-text encoder.
    """
    require(bool(subject.class_noun), "class_noun", "an empty text", "what the subject is", "Write the class noun.")
    check_learns_vectors(clip, "clip", "Connect the CLIP of a Stable Diffusion checkpoint.")
    text = ComfyTextEncoder(clip)
    own = matching_encoder(encoder, text.token_rows(subject.class_noun), subject.class_noun)
    vectors = start_vectors(replace(config, word=subject.identifier, start="word", start_text=subject.class_noun), 0,
                            text.widths, text.token_rows)
    images = [photo.pixels for photo in subject.photos]
    cut_out = [photo.pixels * mask[..., None] for photo, mask in zip(subject.photos, subject.masks, strict=True)
               if mask is not None]
    target = prototype_target(encoder, subject.class_noun, images, cut_out)
    with torch.inference_mode(False):
        fitted = fit_prototype(encoder, vectors[own].clone(), subject.class_noun, target, fitting)
    vectors = {**vectors, own: fitted.vectors}
    given = replace(config, start="given", start_text=subject.class_noun, digest=weights_hash(vectors))
    return TokenVectorsSettings(identifier=subject.identifier, config=given, vectors=vectors), fitted


def matching_encoder(encoder: ImageTextEncoder, rows: Mapping[str, Tensor], text: str) -> str:
    """Which of the CLIP's text encoders has the token table of the image-text encoder.

    Args:
        rows: of each text encoder the rows (n, D) of the text.

    Raises:
        InputError: when none has: vectors for one mean nothing to the other.
    """
    with torch.inference_mode(False), torch.no_grad():
        wanted = encoder.token_vectors(text).float().cpu()
    for kind, found in rows.items():
        if found.shape == wanted.shape and float((found - wanted).abs().max()) <= SAME_TABLE * float(found.std()):
            return kind
    widths = ", ".join(f"{found.shape[1]} (clip_{kind})" for kind, found in rows.items())
    require(False, "image_text", f"an encoder with a token table of width {wanted.shape[1]}, unlike those of the CLIP, "
            f"{widths}", "the CLIP that the checkpoint's text encoder comes from",
            "For Stable Diffusion 1.x and XL take openai/clip-vit-large-patch14.")
    raise AssertionError("refused above")
