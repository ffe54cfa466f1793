"""Phrases in prompts: where 'V noun' stands among the tokens, and the prompt with another noun there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Token = int | Tensor
"""A vocabulary id, or a learned embedding (D,)."""

# What may stand between V and noun: white space and the brackets of prompt weights, as in '(V:1.2) noun'.
_GAP = r"(?:\s|\(|:\s*[+-]?[\d.]+\s*\)|\))+"
_EMPTY_GROUP = re.compile(r"(?<!\\)\(\s*(?::\s*[+-]?[\d.]+\s*)?\)")


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """The words of a tokenized prompt.

    Attributes:
        tokens: its content tokens in order: no begin, end or padding tokens.
        columns: for each of them, its column in the text context.
        length: T, the number of columns.
    """

    tokens: tuple[Token, ...]
    columns: tuple[int, ...]
    length: int


@dataclass(frozen=True, eq=False)
class Occurrence:
    """A phrase among a prompt's content tokens, and the tokens that replace it in the auxiliary prompt."""

    start: int
    size: int
    replacement: tuple[Token, ...]


def content_tokens(chunks: Sequence[Sequence[Token]], begin: int | None, end: int | None) -> PromptTokens:
    """Strip begin, end and padding tokens from a prompt's chunks, and remember the columns of what is left.

    In each chunk, the content is what follows `begin` (if there is one) up to the first `end`.
    """
    tokens: list[Token] = []
    columns: list[int] = []
    offset = 0
    for chunk in chunks:
        for column, token in enumerate(chunk):
            if is_same_token(token, begin) and column == 0:
                continue
            if is_same_token(token, end):
                break
            tokens.append(token)
            columns.append(offset + column)
        offset += len(chunk)
    return PromptTokens(tuple(tokens), tuple(columns), offset)


def find_phrase(tokens: Sequence[Token], phrase: Sequence[Token]) -> tuple[int, ...]:
    """Starts of all occurrences of `phrase` in `tokens`, which do not overlap."""
    starts: list[int] = []
    position = 0
    while phrase and position + len(phrase) <= len(tokens):
        found = all(map(is_same_token, tokens[position : position + len(phrase)], phrase))
        if found:
            starts.append(position)
        position += len(phrase) if found else 1
    return tuple(starts)


def find_phrases(tokens: Sequence[Token], forms: Sequence[tuple[Sequence[Token], Sequence[Token]]]) -> list[Occurrence]:
    """All occurrences of phrases, each given with its replacement, in the order in which they stand."""
    found = [Occurrence(start, len(phrase), tuple(replacement))
             for phrase, replacement in forms for start in find_phrase(tokens, phrase)]
    return sorted(found, key=lambda occurrence: occurrence.start)


def replaced_positions(occurrences: Sequence[Occurrence], tokens: Sequence[Token]) -> tuple[int, ...] | None:
    """Positions of the replacements among the tokens in which every occurrence was replaced.

    None where they are not there, or where occurrences overlap.
    """
    positions: list[int] = []
    shift = end = 0
    for occurrence in occurrences:
        start = occurrence.start + shift
        size = len(occurrence.replacement)
        replaced = tokens[start : start + size]
        if occurrence.start < end or len(replaced) < size:
            return None
        if not all(map(is_same_token, replaced, occurrence.replacement)):
            return None
        positions += range(start, start + size)
        end = occurrence.start + occurrence.size
        shift += size - occurrence.size
    return tuple(positions)


def is_same_token(first: Token | None, second: Token | None) -> bool:
    """Equal vocabulary ids, or equal learned embeddings."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)
    return first is not None and first == second


def replace_phrase(prompt: str, identifier: str, class_noun: str, auxiliary_noun: str) -> tuple[str, int]:
    """The prompt with every 'V noun' replaced by the auxiliary noun, and how many there were.

    Case and white space do not matter; weights stay: '(sks:1.2) dog' becomes '(cat:1.2)', '(sks dog:1.2)'
    becomes '(cat:1.2)', and so does 'sks (dog:1.2)'. An empty class noun replaces V alone.

    Source: METHODS 2, DCI (auxiliary prompt).
    """
    rest = f"(?P<gap>{_GAP}){_phrase_pattern(class_noun)}" if class_noun.strip() else "(?P<gap>)"
    subject = re.compile(_phrase_pattern(identifier) + rest, re.IGNORECASE)
    replaced, count = subject.subn(lambda match: _fill_gap(match["gap"], auxiliary_noun), prompt)
    return (drop_empty_groups(replaced) if count else prompt), count


def drop_empty_groups(prompt: str) -> str:
    """The prompt without brackets around nothing: '()', '(:1.2)'."""
    return _EMPTY_GROUP.sub("", prompt)


def _phrase_pattern(phrase: str) -> str:
    """Matches the words of a phrase with any white space between them, but not as a part of longer words."""
    words = phrase.split()
    before = r"(?<!\w)" if words[0][0].isalnum() else ""
    after = r"(?!\w)" if words[-1][-1].isalnum() else ""
    return before + r"\s+".join(map(re.escape, words)) + after


def _fill_gap(gap: str, noun: str) -> str:
    """The noun with the brackets that stood between V and the class noun: every bracket keeps its partner."""
    closes_first = ")" in gap and ("(" not in gap or gap.index(")") < gap.index("("))
    return noun + gap.rstrip() if closes_first else gap.lstrip() + noun
