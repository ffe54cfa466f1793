"""Phrases among tokens, found by their characters: a tokenizer joins neighbouring punctuation to one token ('),'), so
that a phrase which ends in a bracket need not end with a token."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .phrases import Token, is_same_token

Unit = str | Token
"""A character, or a token that stands for none: a learned embedding, a word that the vocabulary lacks."""


@dataclass(frozen=True, eq=False)
class Spelling:
    """What tokens say, without white space.

    Attributes:
        units: the characters, and the tokens that have none.
        breaks: whether a word can begin at each unit: behind white space, or where the tokenizer parts two words.
        owners: for each unit (first, end) of the tokens that it lies in. A token of nothing but white space belongs to
            the unit behind it.
    """

    units: tuple[Unit, ...]
    breaks: tuple[bool, ...]
    owners: tuple[tuple[int, int], ...]

    def tokens(self, start: int, size: int) -> range:
        """The tokens that any of `size` units lie in, also those that reach beyond them."""
        return range(self.owners[start][0], self.owners[start + size - 1][1])


@dataclass(frozen=True, eq=False)
class Occurrence:
    """A phrase in a prompt, in units, and what replaces it in the auxiliary prompt."""

    start: int
    size: int
    replacement: Spelling


def spell(tokens: Sequence[Token], piece: Callable[[Token], bytes | None]) -> Spelling:
    """The characters of tokens.

    Args:
        tokens: content tokens in order.
        piece: a token's bytes in UTF-8, with white space where a word begins or ends; None where it stands for none.
    """
    units: list[Unit] = []
    breaks: list[bool] = []
    owners: list[tuple[int, int]] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    is_break, first = True, 0
    for number, token in enumerate(tokens):
        content, before = piece(token), len(units)
        for unit in [token] if content is None else _decode(decoder, content):
            if isinstance(unit, str) and unit.isspace():
                is_break = True
                continue
            units.append(unit)
            breaks.append(is_break)
            owners.append((first, number + 1))
            is_break, first = False, number
        if len(units) > before:
            is_split = bool(decoder.getstate()[0])  # a character begins in this token and ends in a later one
            first = number if is_split else number + 1
    return Spelling(tuple(units), tuple(breaks), tuple(owners))


def find_phrase(text: Spelling, phrase: Spelling) -> tuple[int, ...]:
    """Starts of all occurrences of a phrase, which do not overlap, in units: whole words, beside any punctuation."""
    starts: list[int] = []
    position, size = 0, len(phrase.units)
    while size and position + size <= len(text.units):
        found = _stands_at(text, phrase, position)
        if found:
            starts.append(position)
        position += size if found else 1
    return tuple(starts)


def find_phrases(text: Spelling, forms: Sequence[tuple[Spelling, Spelling]]) -> list[Occurrence]:
    """All occurrences of phrases, each given with its replacement, in the order in which they stand."""
    found = [Occurrence(start, len(phrase.units), replacement)
             for phrase, replacement in forms for start in find_phrase(text, phrase)]
    return sorted(found, key=lambda occurrence: occurrence.start)


def occupied(text: Spelling, occurrences: Sequence[Occurrence]) -> set[int]:
    """The tokens of all occurrences; a token that one shares with the punctuation beside it is among them."""
    return {token for found in occurrences for token in text.tokens(found.start, found.size)}


def replaced(occurrences: Sequence[Occurrence], text: Spelling) -> set[int] | None:
    """The tokens of the replacements in the text in which every occurrence was replaced, as in `occupied`.

    None where they are not there, or where occurrences overlap.
    """
    tokens: set[int] = set()
    shift = end = 0
    for occurrence in occurrences:
        start, size = occurrence.start + shift, len(occurrence.replacement.units)
        there = text.units[start : start + size]
        if occurrence.start < end or len(there) < size or not all(map(_is_same, there, occurrence.replacement.units)):
            return None
        tokens |= set(text.tokens(start, size)) if size else set()
        end = occurrence.start + occurrence.size
        shift += size - occurrence.size
    return tokens


def _stands_at(text: Spelling, phrase: Spelling, start: int) -> bool:
    size = len(phrase.units)
    if not all(map(_is_same, text.units[start : start + size], phrase.units)):
        return False
    inside = range(start + 1, start + size)
    return (all(not _is_word(text, place) or text.breaks[place] == phrase.breaks[place - start] for place in inside)
            and all(not _is_word(text, place) or text.breaks[place] for place in (start, start + size)))


def _is_word(text: Spelling, place: int) -> bool:
    """Whether letters or digits meet before a unit, so that a break there parts two words."""
    if not 0 < place < len(text.units):
        return False
    return all(isinstance(unit, str) and unit.isalnum() for unit in text.units[place - 1 : place + 1])


def _is_same(first: Unit, second: Unit) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return isinstance(first, str) and isinstance(second, str) and first == second
    return is_same_token(first, second)


def _decode(decoder: codecs.IncrementalDecoder, content: bytes) -> str:
    return "".join(decoder.decode(bytes([byte])) for byte in content)
