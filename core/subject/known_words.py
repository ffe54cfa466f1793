"""What of a made-up string is a word in some language, by the evidence of tokenizers.

No list of words holds every language. Tokenizers were made from texts of many: what those texts say often is a
token of its own, and a word or a name, unlike an abbreviation or a syllable, is there with a capital letter too.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

LONG = 4
"""Letters from which a token is taken for a word wherever it is found, and its beginning for the word itself."""
_PLAIN = re.compile(r"[A-Za-z]+")
_CAPITALISED = re.compile(r"[A-Z][a-z]+")


@dataclass(frozen=True, kw_only=True)
class KnownWords:
    """Words of any language.

    Attributes:
        whole: lower-case strings that are words.
        parts: those of them that mean something even inside a longer string.
        long: words of four letters and more, in order.
    """

    whole: frozenset[str]
    parts: frozenset[str]
    long: tuple[str, ...]

    def resemblance(self, text: str) -> str | None:
        """Why a lower-case string would be read as a word, or None."""
        if text in self.whole:
            return "is a word"
        if len(text) >= LONG and any(word.startswith(text) for word in self._from(text)):
            return "is how a word begins"
        inside = (text[start:end] for start in range(len(text)) for end in range(start + LONG, len(text) + 1))
        return next((f"holds the word '{part}'" for part in inside if part in self._from(part)), None)

    def _from(self, text: str) -> tuple[str, ...]:
        """The first long word that is not before the text: the text itself, or its continuation, if there is one."""
        place = bisect_left(self.long, text)
        return self.long[place:place + 1]


def known_words(*, tokens: Iterable[str], words: Iterable[str], frequent: Iterable[str]) -> KnownWords:
    """Words by evidence.

    Args:
        tokens: whole-word tokens of vocabularies of many languages, as written.
        words: whole-word tokens of a vocabulary that holds few but words.
        frequent: frequent whole-word tokens of a vocabulary that holds abbreviations as well.
    """
    plain = [text for text in {*tokens, *words, *frequent} if _PLAIN.fullmatch(text)]
    parts = {text.lower() for text in plain if _CAPITALISED.fullmatch(text)} | {text.lower() for text in words}
    return KnownWords(
        whole=frozenset(parts | {text.lower() for text in frequent}), parts=frozenset(parts),
        long=tuple(sorted({text.lower() for text in plain if len(text) >= LONG})))
