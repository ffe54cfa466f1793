"""Identifiers for encoders other than CLIP alone: words that no language has, of a few rare pieces in each encoder.

Source: DreamBooth (arXiv:2208.12242), 3.2, whose identifiers are k = 1..3 rare tokens of at most three characters,
de-tokenized. Ours: the tokens are written as one word; every loaded encoder must read it as k tokens or fewer, all of
them off the beaten track; and what looks like a word of any language by the tokenizers' own evidence is left out. In
T5 the rare tokens of three letters are French, German and Romanian words, so there k = 1 has none to offer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import torch

from ..data.examples import generator_for
from .english import is_offensive
from .identifier import Candidate, check_request, refusal, too_few
from .known_words import LONG, KnownWords
from .quiet_tokens import is_quiet, is_quiet_piece
from .subject import CAPTION_TEMPLATE, fill
from .vocabulary import ARTICLE, MAX_CHARACTERS, MAX_TOKENS, Vocabulary

VOWELS = frozenset("aeiouy")
PATIENCE = 2000
"""Draws without a find after which no more are expected."""


def find_made_words(vocabularies: Sequence[Vocabulary], known: KnownWords, *, class_noun: str, tokens: int = 1,
                    count: int = 8, seed: int = 0, avoid: Collection[str] = ()) -> tuple[Candidate, ...]:
    """`count` identifiers that every encoder reads as `tokens` tokens or fewer; where there are too few, longer ones.

    Raises:
        InputError: when too few are found with three tokens.
    """
    check_request(vocabularies, tokens, count)
    found: list[Candidate] = []
    unwanted = {word.lower() for word in avoid}
    for length in range(tokens, MAX_TOKENS + 1):
        words = (word for word in _words(vocabularies, known, length, seed) if word not in unwanted)
        made = (_candidate(word, class_noun, vocabularies, tokens) for word in words
                if _stands_in_caption(word, class_noun, vocabularies))
        found += islice(made, count - len(found))
        if len(found) == count:
            return tuple(found)
    raise too_few(len(found), MAX_TOKENS, count)


def _words(vocabularies: Sequence[Vocabulary], known: KnownWords, tokens: int, seed: int) -> Iterator[str]:
    """Quiet words whose longest reading has `tokens` tokens, in random order, each once."""
    draws = _single(vocabularies, seed) if tokens == 1 else _joined(vocabularies, known, tokens, seed)
    seen: set[str] = set()
    last = 0
    for place, word in enumerate(draws):
        if place - last > PATIENCE:
            return
        if word not in seen and _is_quiet_word(word, vocabularies, known, tokens):
            seen.add(word)
            last = place
            yield word


def _single(vocabularies: Sequence[Vocabulary], seed: int) -> Iterator[str]:
    """Words that are one rare token in every encoder."""
    shared = set.intersection(*({vocabulary.words[index] for index in vocabulary.rare if index in vocabulary.words}
                                for vocabulary in vocabularies))
    pool = sorted(word for word in shared if word.isalpha() and refusal(word) is None)
    order = torch.randperm(len(pool), generator=generator_for(seed, "identifier", 0)).tolist()
    return (pool[index] for index in order)


def _joined(vocabularies: Sequence[Vocabulary], known: KnownWords, tokens: int, seed: int) -> Iterator[str]:
    """Pieces of the encoder that has the fewest, written as one word: without end, and not yet read by any."""
    parts = min(({vocabulary.pieces[index] for index in vocabulary.pieces if is_quiet_piece(index, vocabulary, known)}
                 - {""} for vocabulary in vocabularies), key=len)
    pool, generator = sorted(parts), generator_for(seed, "identifier", tokens)
    while pool:
        count = tokens - int(torch.randint(2, (), generator=generator))  # beside a piece may stand a space alone
        yield "".join(pool[index] for index in torch.randint(len(pool), (count,), generator=generator).tolist())


def _is_quiet_word(word: str, vocabularies: Sequence[Vocabulary], known: KnownWords, tokens: int) -> bool:
    if not (len(word) >= LONG if tokens > 1 else VOWELS.isdisjoint(word)):
        return False  # of words so short, tokenizers do not tell those of small languages from others
    if known.resemblance(word) or _is_offensive_inside(word):
        return False
    readings = [vocabulary.read(word) for vocabulary in vocabularies]
    return max(len(ids or ()) for ids in readings) == tokens and all(
        ids is not None and is_quiet(ids, vocabulary, known)
        for ids, vocabulary in zip(readings, vocabularies, strict=True))


def _is_offensive_inside(word: str) -> bool:
    return any(is_offensive(word[start:start + size]) for size in (3, 4) for start in range(len(word)))


def _stands_in_caption(word: str, class_noun: str, vocabularies: Sequence[Vocabulary]) -> bool:
    """Whether every encoder reads 'a {V} {noun}' as the article, the word's own tokens and the noun's own."""
    caption = fill(CAPTION_TEMPLATE, word, class_noun)
    return all(list(vocabulary.tokenize(caption)) == [
        *vocabulary.tokenize(ARTICLE), *(vocabulary.read(word) or ()),
        *((vocabulary.read(class_noun) or ()) if class_noun.strip() else ())] for vocabulary in vocabularies)


def _candidate(word: str, class_noun: str, vocabularies: Sequence[Vocabulary], asked: int) -> Candidate:
    ids = {vocabulary.name: vocabulary.read(word) or () for vocabulary in vocabularies}
    longest = max(map(len, ids.values()))
    readings = ", ".join(f"{vocabulary.spell(ids[vocabulary.name])} in {vocabulary.name}"
                         for vocabulary in vocabularies)
    reasons: tuple[str, ...] = (
        f"rare in every encoder: {readings}", f"{MAX_CHARACTERS} letters or fewer a token",
        "by the tokenizers' evidence no word of any language",
        f"same tokens in '{fill(CAPTION_TEMPLATE, word, class_noun)}' as behind any other word")
    if longest > asked:
        reasons += (f"{longest} tokens, for too few words without a meaning have {asked}",)
    return Candidate(text=word, token_ids=ids, reasons=reasons)
