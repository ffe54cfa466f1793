"""Identifiers of a few rare pieces, from two abstract tokenizers that split words at other places."""

from __future__ import annotations

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.identifier import warnings_about
from comfyui_personalize.core.subject.known_words import known_words
from comfyui_personalize.core.subject.made_words import find_made_words
from comfyui_personalize.core.subject.quiet_tokens import is_quiet, is_quiet_piece
from comfyui_personalize.core.subject.vocabulary import Vocabulary

KNOWN = known_words(tokens=["Moi", "vabor"], words=["uer"], frequent=[])
COMMON = ["", "a", "dog", "ing", "the"]
RARE = ["vab", "mur", "zov", "pli", "moi", "uer", "box", "fuk", "vabo", "qx", "wrs"]


def vocabulary(name="t5xxl", entries=(*COMMON, *RARE), words=("a", "dog", "qx", "wrs"), rare_from=5):
    """Words of `words` are one token; others a lone space (id 0), then the longest pieces, letters from 1000 on."""
    table = {entry: index for index, entry in enumerate(entries)}

    def split(word):
        while word:
            size = next((size for size in range(len(word), 0, -1) if word[:size] in table), 0)
            yield table[word[:size]] if size else 1000 + ord(word[0])
            word = word[size or 1:]

    def tokenize(text):
        return [index for word in text.split()
                for index in ([table[word]] if word in words else [0, *split(word)])]

    entries = {index: entry for entry, index in table.items()}
    return Vocabulary(name=name, words={table[word]: word for word in words}, pieces=entries,
                      rare=range(rare_from, len(table)), tokenize=tokenize, common=5)


def find(vocabularies=None, **request):
    return find_made_words(vocabularies or [vocabulary()], KNOWN, **{"class_noun": "dog", "count": 2} | request)


@pytest.mark.parametrize("piece", ["ing", "moi", "uer", "box", "fuk", "vabo", "a"])
def test_everyday_pieces_words_of_any_language_and_letters_are_loud(piece):
    assert not is_quiet_piece((*COMMON, *RARE).index(piece), vocabulary(), KNOWN)


@pytest.mark.parametrize("piece", ["", "vab", "qx"])
def test_rare_pieces_and_a_space_alone_are_quiet(piece):
    assert is_quiet_piece((*COMMON, *RARE).index(piece), vocabulary(), KNOWN)


def test_a_reading_is_quiet_as_few_quiet_pieces_and_as_one_token_only_if_that_is_rare():
    ids = {entry: index for index, entry in enumerate((*COMMON, *RARE))}
    assert is_quiet((ids[""], ids["vab"], ids["mur"]), vocabulary()) and is_quiet((ids["qx"],), vocabulary())
    assert not is_quiet((ids["qx"],), vocabulary(rare_from=16)) and not is_quiet((), vocabulary())
    assert not is_quiet((ids["vab"],) * 4, vocabulary()) and not is_quiet((ids["vab"], ids["ing"]), vocabulary())


def test_one_token_is_a_rare_word_of_every_encoder():
    assert {c.text for c in find(tokens=1)} == {"qx", "wrs"}
    other = vocabulary("qwen", words=("a", "dog", "wrs"))
    assert [c.text for c in find([vocabulary(), other], tokens=1, count=1)] == ["wrs"]


def test_three_tokens_are_two_pieces_behind_the_space():
    found = find(tokens=3, count=8)
    assert len({c.text for c in found}) == 8
    assert all(c.token_ids["t5xxl"][0] == 0 and len(c.token_ids["t5xxl"]) == 3 for c in found)
    assert all({c.text[:3], c.text[3:]} <= {"vab", "mur", "zov", "pli"} or "qx" in c.text or "wrs" in c.text
               for c in found)


def test_an_encoder_that_reads_letters_or_everyday_pieces_has_the_word_refused():
    other = vocabulary("clip_l", entries=("", "a", "dog", "the", "ing", "mur", "vab", "zov"), words=("a", "dog"))
    allowed = {c.text for c in find([vocabulary(), other], tokens=3, count=6)}
    assert all({word[:3], word[3:]} <= {"vab", "mur", "zov"} for word in allowed)


def test_words_that_begin_or_hold_a_known_word_are_never_made():
    texts = {c.text for seed in range(30) for c in find(tokens=3, count=4, seed=seed)}
    assert texts and not any("vabo" in text or "uer" in text for text in texts)


def test_where_one_token_has_too_few_words_longer_ones_are_offered_and_say_so():
    found = find(tokens=1, count=4)
    assert {c.text for c in found[:2]} == {"qx", "wrs"}
    assert found[3].reasons[-1].endswith("tokens, for too few words without a meaning have 1")


def test_a_seed_decides_and_avoided_words_are_left_out():
    assert [c.text for c in find(tokens=3, count=4)] == [c.text for c in find(tokens=3, count=4)]
    assert [c.text for c in find(tokens=3, count=4)] != [c.text for c in find(tokens=3, count=4, seed=1)]
    first = find(tokens=3, count=1)[0].text
    assert first not in {c.text for c in find(tokens=3, count=8, avoid=[first.upper()])}


def test_what_no_vocabulary_can_give_is_refused():
    poor = vocabulary(entries=("", "a", "dog", "the", "ing"), words=("a", "dog"))
    with pytest.raises(InputError, match="candidates: got 0 safe identifiers of 3 tokens, expected 2"):
        find([poor])
    with pytest.raises(InputError, match="clip: got a text encoder whose tokenizer holds no words"):
        find_made_words([], KNOWN, class_noun="dog")


def test_a_made_word_gives_no_warning_and_one_of_letters_does():
    assert warnings_about("vabmur", "dog", [vocabulary()]) == ()
    (warning,) = warnings_about("vabx", "dog", [vocabulary()])
    assert "splits into 3 common pieces in t5xxl (_ | vab | #1120)" in warning
