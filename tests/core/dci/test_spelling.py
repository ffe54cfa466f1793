"""Phrases are found among tokens by their characters, also where a token joins them to the punctuation beside them."""

import pytest
import torch

from comfyui_personalize.core.dci.spelling import find_phrase, find_phrases, occupied, replaced, spell

CLIP = dict(enumerate(
    "a |sks |dog |dogs |shu |( |) |), |, |ar|knights |1 |boy |C |++ |++, |mr |. |.. |cat |sk|sdog |(( ".split("|")))


def tokens(*pieces: str) -> list[int]:
    return [next(number for number, piece in CLIP.items() if piece == wanted) for wanted in pieces]


def spelled(*pieces: str):
    return spell(tokens(*pieces), lambda token: CLIP[token].encode())


def found(text, phrase) -> list[list[int]]:
    return [list(text.tokens(start, len(phrase.units))) for start in find_phrase(text, phrase)]


def test_units_are_characters_with_their_words_and_tokens():
    text = spelled("ar", "knights ", "), ")
    assert "".join(text.units) == "arknights),"
    assert text.breaks == (True, *[False] * 8, True, False)
    assert text.owners == ((0, 1), (0, 1), *[(1, 2)] * 7, (2, 3), (2, 3))


def test_a_character_of_several_tokens_belongs_to_all_of_them():
    pieces = [b"a ", "é".encode()[:1], "é".encode()[1:], b"b "]
    text = spell(range(4), lambda token: pieces[token])
    assert text.units == ("a", "é", "b") and text.owners == ((0, 1), (1, 3), (3, 4))


def test_a_token_of_white_space_belongs_to_the_unit_behind_it():
    pieces = [b" a", b" ", b"s", b"k", b" d", b" "]
    text = spell(range(6), lambda token: pieces[token])
    assert text.units == ("a", "s", "k", "d") and text.owners == ((0, 1), (1, 3), (3, 4), (4, 5))
    assert text.breaks == (True, True, False, True)


@pytest.mark.parametrize(("text", "phrase", "places"), [
    (("a ", "shu ", "( ", "ar", "knights ", "), ", "a "), ("shu ", "( ", "ar", "knights ", ") "), [[1, 2, 3, 4, 5]]),
    (("C ", "++, ", "dog "), ("C ", "++ "), [[0, 1]]),
    (("mr ", ".. "), ("mr ", ". "), [[0, 1]]),
    (("(( ", "shu "), ("( ", "shu "), [[0, 1]]),
    (("sks ", "dog ", "sks ", "dog "), ("sks ", "dog "), [[0, 1], [2, 3]]),
    (("sks ", "dogs "), ("sks ", "dog "), []), (("sk", "sdog "), ("sks ", "dog "), []),
    (("a ", "dog "), ("sks ", "dog "), []), (("sks ", ", ", "dog "), ("sks ", "dog "), []), ((), ("dog ",), [])])
def test_a_phrase_is_found_whole_with_every_token_that_it_lies_in(text, phrase, places):
    assert found(spelled(*text), spelled(*phrase)) == places


def test_occurrences_do_not_overlap_and_nothing_is_nowhere():
    text = spell([1, 1, 1, 2, 1, 1], lambda _: None)
    assert find_phrase(text, spell([1, 1], lambda _: None)) == (0, 4) and find_phrase(text, spell([], str.encode)) == ()


def test_learned_embeddings_are_compared_by_value():
    vector = torch.arange(3.0)
    text = spell([1, vector, 2], lambda _: None)
    assert find_phrase(text, spell([vector.clone(), 2], lambda _: None)) == (1,)
    assert find_phrase(text, spell([vector + 1, 2], lambda _: None)) == ()


def test_replacements_are_found_after_shifts_by_the_difference_in_length():
    prompt, first, second = spelled("a ", "sks ", "dog ", ", ", "C ", "++, ", "a "), ("sks ", "dog "), ("C ", "++ ")
    forms = [(spelled(*first), spelled("1 ", "boy ")), (spelled(*second), spelled("cat "))]
    occurrences = find_phrases(prompt, forms)
    assert occupied(prompt, occurrences) == {1, 2, 4, 5}
    assert replaced(occurrences, spelled("a ", "1 ", "boy ", ", ", "cat ", ", ", "a ")) == {1, 2, 4}


def test_a_replacement_that_joins_the_punctuation_behind_it_has_that_token():
    occurrences = find_phrases(spelled("a ", "dog ", ". "), [(spelled("dog "), spelled("mr ", ". "))])
    assert replaced(occurrences, spelled("a ", "mr ", ".. ")) == {1, 2}


def test_missing_and_overlapping_replacements_have_no_tokens():
    once = find_phrases(spelled("sks ", "dog "), [(spelled("sks ", "dog "), spelled("cat "))])
    assert replaced(once, spelled("a ")) is None and replaced(once, spelled()) is None
    twice = find_phrases(spelled("sks ", "dog "), [(spelled("sks ", "dog "), spelled("cat ")),
                                                   (spelled("dog "), spelled("cat "))])
    assert replaced(twice, spelled("cat ", "cat ")) is None
