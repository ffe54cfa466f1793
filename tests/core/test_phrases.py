"""Phrases among tokens and in texts."""

import pytest
import torch

from comfyui_personalize.core.dci.phrases import (
    content_tokens,
    find_phrase,
    find_phrases,
    replace_phrase,
    replaced_positions,
)

BOS, EOS = 98, 99


def test_content_leaves_out_begin_end_and_padding_of_every_chunk():
    found = content_tokens([[BOS, 5, 6, EOS, EOS], [BOS, 7, EOS, 0, 0]], BOS, EOS)
    assert found.tokens == (5, 6, 7) and found.columns == (1, 2, 6) and found.length == 10


def test_padding_id_that_is_also_a_word_stays_a_word_in_the_content():
    found = content_tokens([[BOS, 0, 5, EOS, 0, 0]], BOS, EOS)
    assert found.tokens == (0, 5) and found.columns == (1, 2)


def test_phrase_across_a_chunk_boundary_is_found():
    prompt = content_tokens([[BOS, 1, 2, EOS], [BOS, 3, 4, EOS]], BOS, EOS)
    start, = find_phrase(prompt.tokens, (2, 3))
    assert prompt.columns[start : start + 2] == (2, 5)


def test_all_occurrences_are_found_without_overlap():
    assert find_phrase((1, 1, 1, 2, 1, 1), (1, 1)) == (0, 4)
    assert find_phrase((1, 2), (1, 2, 3)) == () and find_phrase((1, 2), ()) == ()


def test_learned_embeddings_are_compared_by_value():
    vector = torch.arange(3.0)
    assert find_phrase((1, vector, 2), (vector.clone(), 2)) == (1,)
    assert find_phrase((1, vector, 2), (vector + 1, 2)) == ()


def test_replacements_are_found_after_shifts_by_the_difference_in_length():
    occurrences = find_phrases((9, 1, 2, 8, 5, 8, 1, 2), [((1, 2), (3, 3, 3)), ((5,), (6, 6))])
    assert [(found.start, found.size) for found in occurrences] == [(1, 2), (4, 1), (6, 2)]
    assert replaced_positions(occurrences, (9, 3, 3, 3, 8, 6, 6, 8, 3, 3, 3)) == (1, 2, 3, 5, 6, 8, 9, 10)


def test_missing_and_overlapping_replacements_have_no_positions():
    once = find_phrases((1, 2), [((1, 2), (3,))])
    assert replaced_positions(once, (4,)) is None and replaced_positions(once, ()) is None
    twice = find_phrases((1, 2), [((1, 2), (3,)), ((2,), (3,))])
    assert replaced_positions(twice, (3, 3)) is None


@pytest.mark.parametrize(("prompt", "expected", "count"), [
    ("a sks dog in a bucket", "a cat in a bucket", 1),
    ("A SKS  Dog, and a sks\ndog", "A cat, and a cat", 2),
    ("a (sks dog:1.2) at sea", "a (cat:1.2) at sea", 1),
    ("a (sks:1.2) dog at sea", "a (cat:1.2) at sea", 1),
    ("a sks (dog:1.2) at sea", "a (cat:1.2) at sea", 1),
    ("a ((sks) dog:1.3) at sea", "a ((cat):1.3) at sea", 1),
    ("a (sks:1.2) (dog:0.9)", "a (cat:1.2) ", 1),
    ("a sksy dog, sks dogs, asks dog, sks-dog", "a sksy dog, sks dogs, asks dog, sks-dog", 0),
    (r"a sks dog \(really\) ()", r"a cat \(really\) ", 1),
])
def test_subject_is_replaced_in_the_text(prompt, expected, count):
    assert replace_phrase(prompt, "sks", "dog", "cat") == (expected, count)


@pytest.mark.parametrize(("identifier", "noun", "prompt", "expected"), [
    ("<new1>", "dog", "a <new1> dog runs", "a cat runs"),
    ("V*", "tortoise plushy", "a V* tortoise plushy, painted", "a cat, painted"),
    ("embedding:mine", "dog", "a embedding:mine dog runs", "a cat runs"),
    ("sks ohwx", "бульдог", "sks ohwx бульдог в парке", "cat в парке"),
    ("sks", "", "a sks at sea", "a cat at sea"),
])
def test_identifiers_and_nouns_of_several_words_and_signs(identifier, noun, prompt, expected):
    assert replace_phrase(prompt, identifier, noun, "cat") == (expected, 1)
