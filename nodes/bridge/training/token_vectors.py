"""The learned vectors of a training run: whose they are, what is refused, how prompts name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ....core.data.examples import TrainingData
from ....core.errors import require
from ....core.learning.token_vectors import TokenVectorsConfig, reads
from ....core.model.contracts import WordVectors
from ....core.subject.subject import Subject, fill
from ....core.wording import fold
from ..model.hashes import model_hash, tensor_digest, weights_hash
from ..sockets import Personalization, PreviewSettings, TokenVectorsSettings
from ..text.encoder import check_learns_vectors, embedded_digest, is_cachable
from ..text.learned_vectors import (
    CLIP_ENCODERS,
    PREFIX,
    embedding_names,
    reading_clip,
    tokenize_with_vectors,
    with_embedding_names,
)
from .request import Request


def vectors_of_subjects(chain: Sequence[TokenVectorsSettings],
                        subjects: Sequence[Subject]) -> tuple[tuple[TokenVectorsConfig, ...], WordVectors]:
    """The token vectors that TOKEN_VECTORS asks for, one set per identifier, and the vectors of those that are given.

    Raises:
        InputError: for an identifier that no subject has.
    """
    configs, starts = [], {}
    known = {identifier: noun for subject in subjects for identifier, noun in subject.names}
    for settings in chain:
        asked = fold(settings.identifier)
        require(not asked or asked in map(fold, known), "identifier", repr(settings.identifier),
                "one of " + ", ".join(known), "Connect the subject's own identifier, or leave it empty for all.")
        for identifier, noun in known.items():
            if asked in ("", fold(identifier)):
                text = fill(settings.config.start_text, identifier, noun) or identifier
                configs.append(replace(settings.config, word=identifier, start_text=text))
                starts[identifier] = settings.vectors
    return tuple(configs), {word: found for word, found in starts.items() if found}


def check_token_vectors(request: Request, data: TrainingData, token_vectors: Sequence[TokenVectorsConfig]) -> None:
    """Raise `InputError` for token vectors that cannot be learned, on prepared data.

    Contexts stand in one prompt of 77 tokens with the subject: spread over two, they would not be one prompt.
    """
    needs_encoder = [objective for objective in request.config.objectives if objective.needs_image_text]
    require(not needs_encoder or request.image_text is not None, "image_text", "nothing", "an image-text encoder",
            "Connect Image-Text Encoder to the trainer.")
    is_text_side_trained = request.is_text_trained and is_text_side_of(request.image_text, request.clip)
    for objective in request.config.objectives:
        objective.check_learning(data, token_vectors, is_text_side_trained)
    if not token_vectors:
        return
    check_learns_vectors(request.clip, "token vectors",
                         "Train without token vectors, or use a Stable Diffusion checkpoint.")
    for word in token_vectors:
        require(any(reads(prompt, word.word) for prompt in data.prompts()), "token vectors",
                f"the word {word.word!r}", "a word of the captions", "Write the identifier into the caption as {V}.")
    _check_starts(request, token_vectors)
    _check_length(request, token_vectors, data.prompts())


def _check_starts(request: Request, token_vectors: Iterable[TokenVectorsConfig]) -> None:
    for word in token_vectors:
        if word.start != "given":
            continue
        for kind in (kind for kind, name in CLIP_ENCODERS.items() if hasattr(request.clip.cond_stage_model, name)):
            found = request.starts.get(word.word, {}).get(kind)
            width = _width(request.clip, kind)
            got = "none" if found is None else f"{len(found)} of width {found.shape[-1]}"
            fits = found is not None and found.shape == (word.count, width)
            require(fits, "token vectors", f"{got} for {word.word!r} in {CLIP_ENCODERS[kind]}",
                    f"{word.count} of width {width}", "Make them with the CLIP that is trained with.")


def _width(clip: Any, kind: str) -> int:
    table = getattr(clip.cond_stage_model, CLIP_ENCODERS[kind]).transformer.get_input_embeddings().weight
    return int(table.shape[1])


def _check_length(request: Request, token_vectors: Iterable[TokenVectorsConfig], prompts: Iterable[str]) -> None:
    contexts = [word.word for word in token_vectors if word.is_context]
    zeros = {word.word: {kind: torch.zeros(word.count, 1) for kind in CLIP_ENCODERS} for word in token_vectors}
    for prompt in prompts:
        if any(reads(prompt, word) for word in contexts):
            inside = {word: found for word, found in zeros.items() if reads(prompt, word)}
            chunks = max(len(found) for found in tokenize_with_vectors(request.clip, prompt, inside).values())
            require(chunks == 1, "objective", "learned contexts that fill more than one prompt of 77 tokens",
                    "75 tokens with identifier and class noun", "Use fewer prefix, suffix or identifier vectors.")


def is_text_side_of(image_text: Any, clip: Any) -> bool:
    """Whether the image-text encoder reads with the very text encoder of this CLIP."""
    other = getattr(image_text, "clip", None)
    return other is not None and other.patcher.model is clip.patcher.model


def image_text_in(request: Request, clip: Any) -> Any:
    """The image-text encoder; with the trainer's own copy of the CLIP where it reads with the trained one."""
    if is_text_side_of(request.image_text, request.clip) and clip is not request.clip:
        return request.image_text.with_clip(clip)
    return request.image_text


def token_vectors_key(request: Request) -> dict[str, Any]:
    """What of the learned vectors is in no config: given vectors, textual inversion files, the image-text encoder."""
    starts = {word: weights_hash(found) for word, found in request.starts.items()}
    texts = [word.start_text for word in request.config.token_vectors if not is_cachable(word.start_text)]
    key: dict[str, Any] = {"starts": starts, "start_texts": [embedded_digest(request.clip, text) for text in texts]}
    if any(objective.needs_image_text for objective in request.config.objectives) and request.image_text is not None:
        key["image_text"] = image_text_digest(request.image_text)
    return key


def image_text_digest(encoder: Any) -> list[str]:
    """Digests of an image-text encoder's text tower and projection."""
    own = getattr(encoder, "clip", None)
    weights = model_hash(own.patcher) if own is not None else weights_hash(encoder.model.text_model.state_dict())
    return [weights, tensor_digest(encoder.text_projection).hex()]


def with_vectors(clip: Any, vectors: WordVectors) -> Any:
    """The CLIP that reads `embedding:<name>` as learned vectors, where there are some."""
    names = embedding_names(vectors)
    return reading_clip(clip, {names[word]: found for word, found in vectors.items()}) if vectors else clip


def preview_of(settings: PreviewSettings, vectors: WordVectors) -> PreviewSettings:
    """The preview with its identifiers written as `with_vectors` reads them."""
    return replace(settings, prompt=with_embedding_names(settings.prompt, embedding_names(vectors)))


def subject_texts(result: Personalization) -> str:
    """How to write each subject in a prompt: its identifier, or `embedding:` and the name of its vectors."""
    names = embedding_names(result.token_vectors)
    return ", ".join(f"{PREFIX}{names[word]}" if word in names else word for word in result.metadata["identifiers"])
