"""Identifiers for whatever text encoders are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ....core.subject.identifier import Candidate, find_candidates, rank
from ....core.subject.made_words import find_made_words
from ....core.subject.vocabulary import Vocabulary
from .language_words import language_words
from .vocabulary import text_embedder, trained_names, vocabularies_of


def identifiers_for(vocabularies: Sequence[Vocabulary], **request: Any) -> tuple[Candidate, ...]:
    """CLIP's own rare words where only CLIPs are loaded, else words made of rare pieces of every encoder.

    Raises:
        InputError: as `find_candidates`.
    """
    if all(vocabulary.name.startswith("clip_") for vocabulary in vocabularies):
        return find_candidates(vocabularies, **request)
    return find_made_words(vocabularies, language_words(), **request)


def rank_identifiers(clip: Any, class_noun: str, *, tokens: int = 1, count: int = 8, seed: int = 0,
                     avoid: Iterable[str] = ()) -> tuple[Candidate, ...]:
    """Identifiers for this CLIP, best first; never a word of the noun, nor a name that was taught on it before.

    Raises:
        InputError: as `find_candidates`.
    """
    unwanted = {*avoid, *class_noun.split(), *trained_names(clip)}
    found = identifiers_for(vocabularies_of(clip), class_noun=class_noun, tokens=tokens, count=count, seed=seed,
                            avoid=unwanted)
    return rank(found, class_noun, text_embedder(clip))
