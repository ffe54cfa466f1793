"""Which short or rare words are English (or offensive), so that no identifier is one of them.

The list is bundled: `english_words.txt`, cut from SCOWL to what the question needs (its own header says how).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

WORD_LIST = Path(__file__).with_name("english_words.txt")

OFFENSIVE = frozenset(
    "cum dik dix fap fck fgt fuk hoe jap jiz kkk nig pis pkk pnk sht slu sob stfu tit wtf".split()
)
"""Short tokens that no picker should offer; SCOWL does not hold all of them."""


@cache
def english_words() -> frozenset[str]:
    """Every bundled word, in lower case."""
    lines = WORD_LIST.read_text(encoding="ascii").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def is_english_word(text: str) -> bool:
    """Whether `text` is a bundled English word: all up to three letters, longer ones where rare in CLIP."""
    return text.lower() in english_words()


def is_offensive(text: str) -> bool:
    """Whether `text` is a short offensive word or its usual disguise."""
    return text.lower() in OFFENSIVE
