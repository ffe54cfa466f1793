"""A text encoder's vocabulary as the identifier tools read it: which tokens are words, which are rare or everyday."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MAX_TOKENS = 3
"""Tokens of an identifier."""
MAX_CHARACTERS = 3
"""Characters of each of its tokens."""
ARTICLE = "a"
"""What stands before the word whose tokens are asked for: in most tokenizers a word reads otherwise without a space."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """One text encoder's vocabulary.

    Attributes:
        name: as the user knows the encoder, e.g. "clip_l".
        words: id -> text, whole-word tokens only (CLIP's `</w>`, SentencePiece's and byte-level BPE's mark of a space).
        pieces: id -> text, every token that can be spelled; a lone mark of a space is "".
        rare: the ids that count as rare.
        tokenize: text -> content ids, without start, end and padding.
        common: ids below it are everyday pieces.
    """

    name: str
    words: Mapping[int, str]
    pieces: Mapping[int, str]
    rare: range
    tokenize: Callable[[str], Sequence[int]]
    common: int = 0

    def id_of(self, text: str) -> int | None:
        """The id of `text` where the encoder reads it as one token, otherwise None."""
        ids = tuple(self.tokenize(text))
        return ids[0] if len(ids) == 1 and ids[0] >= 0 else None

    def read(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text behind a space, None where it melts with the word before it."""
        article, found = tuple(self.tokenize(ARTICLE)), tuple(self.tokenize(f"{ARTICLE} {text}"))
        return found[len(article):] if found[:len(article)] == article else None

    def spell(self, ids: Sequence[int]) -> str:
        """Tokens as a person reads them: gab | mur."""
        return " | ".join(self.pieces.get(index, f"#{index}") or "_" for index in ids)
