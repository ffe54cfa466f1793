"""Words by the evidence of tokenizers."""

from __future__ import annotations

import pytest

from comfyui_personalize.core.subject.known_words import known_words

KNOWN = known_words(tokens=["Haus", "haus", "qvx", "QVX", "gehen", "elefante"], words=["moi"], frequent=["bmw"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("haus", "is a word"),
        ("moi", "is a word"),
        ("bmw", "is a word"),
        ("gehen", "is how a word begins"),
        ("elef", "is how a word begins"),
        ("xgehenq", "holds the word 'gehen'"),
        ("qvx", None),
        ("ele", None),
        ("elx", None),
    ],
)
def test_words_their_beginnings_and_what_holds_one_resemble_a_word(text, reason):
    assert KNOWN.resemblance(text) == reason


def test_a_capital_tells_a_word_or_name_from_an_abbreviation():
    assert KNOWN.parts == {"haus", "moi"} and KNOWN.whole == {"haus", "moi", "bmw"}


def test_nothing_known_resembles_nothing():
    assert known_words(tokens=(), words=(), frequent=()).resemblance("haus") is None
