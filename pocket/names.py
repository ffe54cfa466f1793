"""Which words name the individuals of base training? 300 of one token and 200 of two.

The words are CLIP's rare whole-word tokens (`names.json`). What is not a name here stays reserved: base training
never shows it, so that a user's identifier is new to the model.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Final

from .rare_words import load_names, load_reserved

SINGLE: Final = 300
PAIRS: Final = 200
PAIR_WORDS: Final = 80
"""Words that the pairs are made of: each in five pairs, so that both tokens of a pair must be read."""
NEVER: Final = frozenset({"sks", "ohwx"})


@cache
def individual_names() -> tuple[str, ...]:
    """The names in the order of their individuals' numbers: single words first, then pairs 'word word'."""
    rng = random.Random(2)
    free = [word for word in load_reserved() if word not in NEVER]
    drawn = rng.sample(free, SINGLE - len(load_names()) + PAIR_WORDS)
    single = [*load_names(), *drawn[PAIR_WORDS:]]
    return (*single, *_pairs(drawn[:PAIR_WORDS], rng))


def _pairs(words: list[str], rng: random.Random) -> list[str]:
    """Distinct pairs of two different words; every word is used about equally often."""
    pairs: dict[str, None] = {}
    while len(pairs) < PAIRS:
        shuffled = rng.sample(words, len(words))
        pairs.update({f"{a} {b}": None for a, b in zip(shuffled[::2], shuffled[1::2], strict=True)})
    return list(pairs)[:PAIRS]


@cache
def name_words() -> tuple[str, ...]:
    """Every word that occurs in a name."""
    return tuple(sorted({word for name in individual_names() for word in name.split()}))


def reserved_words() -> tuple[str, ...]:
    """The rare words that base training never shows: free for users' identifiers."""
    return tuple(word for word in load_reserved() if word not in set(name_words()))
