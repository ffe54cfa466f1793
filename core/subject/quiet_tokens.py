"""Which tokens say nothing, so that an identifier may be read as them."""

from __future__ import annotations

from collections.abc import Sequence

from .english import is_english_word, is_offensive
from .known_words import KnownWords
from .vocabulary import MAX_CHARACTERS, MAX_TOKENS, Vocabulary


def is_quiet(ids: Sequence[int], vocabulary: Vocabulary, known: KnownWords | None = None) -> bool:
    """Whether an encoder reads these tokens as few rare pieces, none a letter, an everyday piece or a word."""
    if len(ids) == 1 and ids[0] not in vocabulary.rare:
        return False
    return 1 <= len(ids) <= MAX_TOKENS and all(is_quiet_piece(index, vocabulary, known) for index in ids)


def is_quiet_piece(index: int, vocabulary: Vocabulary, known: KnownWords | None = None) -> bool:
    """Whether a token says nothing: two or three letters, none of the everyday ones, no word; or a space alone."""
    text = vocabulary.pieces.get(index, "?")
    if text == "":
        return True
    is_short = 2 <= len(text) <= MAX_CHARACTERS and text.isascii() and text.isalpha() and text.islower()
    if not is_short or index < vocabulary.common or is_english_word(text) or is_offensive(text):
        return False
    return known is None or text not in known.parts
