"""Identifiers for whatever text encoders are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....core.subject.identifier import Candidate, find_candidates
from ....core.subject.made_words import find_made_words
from ....core.subject.vocabulary import Vocabulary
from .language_words import language_words


def identifiers_for(vocabularies: Sequence[Vocabulary], **request: Any) -> tuple[Candidate, ...]:
    """CLIP's own rare words where only CLIPs are loaded, else words made of rare pieces of every encoder.

    Raises:
        InputError: as `find_candidates`.
    """
    if all(vocabulary.name.startswith("clip_") for vocabulary in vocabularies):
        return find_candidates(vocabularies, **request)
    return find_made_words(vocabularies, language_words(), **request)
