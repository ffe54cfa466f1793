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
_OPENING = re.compile(r"[\s(]*")
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


def between(tokens: Sequence[Token], before: Sequence[Token], behind: Sequence[Token], pad: Token) -> PromptTokens:
    """The words of a prompt without the chat template around them, and without padding, wherever it stands."""
    end = len(trimmed(tokens, pad, from_start=False))
    has_template = len(shared_start(tokens, before)) == len(before)
    start = len(before) if has_template else 0
    rest = tokens[:end]
    if behind and len(shared_start(rest[::-1], behind[::-1])) == len(behind):
        rest = trimmed(rest[: len(rest) - len(behind)], pad, from_start=False)
    columns = range(start, len(rest))
    return PromptTokens(tuple(tokens[column] for column in columns), tuple(columns), len(tokens))


def shared_start(first: Sequence[Token], second: Sequence[Token]) -> list[Token]:
    """The tokens with which both begin."""
    shared: list[Token] = []
    for one, other in zip(first, second, strict=False):
        if not is_same_token(one, other):
            break
        shared.append(one)
    return shared


def trimmed(tokens: Sequence[Token], pad: Token, from_start: bool = True) -> list[Token]:
    """The tokens without padding at the end, and at the start if wanted."""
    kept = list(tokens)
    while kept and is_same_token(kept[-1], pad):
        kept.pop()
    while from_start and kept and is_same_token(kept[0], pad):
        kept.pop(0)
    return kept


def is_same_token(first: Token | None, second: Token | None) -> bool:
    """Equal vocabulary ids, or equal learned embeddings."""
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)
    return first is not None and first == second


def replace_phrase(prompt: str, identifier: str, class_noun: str, auxiliary_noun: str) -> tuple[str, int]:
    """The prompt with every 'V noun' replaced by the auxiliary noun, and how many there were.

    Case and white space do not matter; weights stay: '(sks:1.2) dog' becomes '(cat:1.2)', '(sks dog:1.2)'
    becomes '(cat:1.2)', and so do 'sks (dog:1.2)' and 'sks (toy:1.2) dog'. An empty class noun replaces V alone.

    Source: METHODS 2, DCI (auxiliary prompt).
    """
    words = [*identifier.split(), *class_noun.split()]
    subject = re.compile(f"({_GAP})".join(_word_pattern(word) for word in words), re.IGNORECASE)
    replaced, count = subject.subn(lambda match: _with_brackets("".join(match.groups()), auxiliary_noun), prompt)
    return (drop_empty_groups(replaced) if count else prompt), count


def drop_empty_groups(prompt: str) -> str:
    """The prompt without brackets around nothing: '()', '(:1.2)'."""
    return _EMPTY_GROUP.sub("", prompt)


def _word_pattern(word: str) -> str:
    """Matches a word, but not as a part of a longer one."""
    before = r"(?<!\w)" if word[0].isalnum() else ""
    after = r"(?!\w)" if word[-1].isalnum() else ""
    return before + re.escape(word) + after


def _with_brackets(gaps: str, noun: str) -> str:
    """The noun with the brackets that stood between the words of the subject: every bracket keeps its partner."""
    opening = _OPENING.match(gaps)[0]  # type: ignore[index]  # it matches nothing as well
    rest = gaps[len(opening):].rstrip() if ")" in gaps else ""
    return "".join(opening.split()) + noun + rest
