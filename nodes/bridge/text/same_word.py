"""When two spellings are one word for the text encoders that are loaded: CLIP lower-cases, T5 does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ....core.dci.phrases import Token, is_same_token
from ....core.errors import require
from ....core.subject.subject import Subject
from ....core.wording import has_word, spellings
from .learned_vectors import PREFIX


def is_same_word(clip: Any, first: str, second: str) -> bool:
    """Whether every text encoder of the CLIP reads two texts as the same tokens.

    Names of embeddings are compared as written: a missing file would make all of them nothing.
    """
    if first == second or PREFIX in first or PREFIX in second:
        return first == second
    left, right = (_tokens(clip, text) for text in (first, second))
    return left.keys() == right.keys() and all(
        len(left[encoder]) == len(right[encoder]) and all(map(is_same_token, left[encoder], right[encoder]))
        for encoder in left)


def same_words(clip: Any, words: Iterable[str]) -> list[list[str]]:
    """The words in groups of one: each holds the spellings, and the same spelling as often as it was given."""
    groups: list[list[str]] = []
    for word in words:
        own = next((group for group in groups if is_same_word(clip, group[0], word)), None)
        if own is None:
            groups.append([word])
        else:
            own.append(word)
    return groups


def has_same_word(clip: Any, text: str, word: str) -> bool:
    """Whether a text names a word in a spelling that the CLIP reads alike."""
    return any(is_same_word(clip, found, word) for found in spellings(text, word))


def check_spelling(clip: Any, subjects: Iterable[Subject]) -> None:
    """Refuse captions whose identifier is another word for this CLIP than the one that was given.

    Raises:
        InputError: it names the caption.
    """
    for subject in subjects:
        for caption in map(subject.caption_of, subject.photos):
            for identifier in (name for name, _ in subject.names if has_word(caption, name)):
                require(has_same_word(clip, caption, identifier), "captions",
                        f"{caption!r}, whose {spellings(caption, identifier)[0]!r} is another word than {identifier!r} "
                        "for this text encoder", "the identifier as it was typed", "Write {V} in its place.")


def _tokens(clip: Any, text: str) -> dict[str, list[Token]]:
    return {encoder: [entry[0] for chunk in chunks for entry in chunk]
            for encoder, chunks in clip.tokenize(text).items()}
