"""Phrases among tokens and in texts."""

import pytest
import torch

from comfyui_personalize.core.dci.phrases import content_tokens, find_phrase, replace_phrase, replaced_starts

BOS, EOS = 98, 99


def test_content_leaves_out_begin_end_and_padding_of_every_chunk():
    found = content_tokens([[BOS, 5, 6, EOS, EOS], [BOS, 7, EOS, 0, 0]], BOS, EOS)
    assert found.tokens == (5, 6, 7) and found.columns == (1, 2, 6) and found.length == 10


def test_padding_id_that_is_also_a_word_stays_a_word_in_the_content():
    found = content_tokens([[BOS, 0, 5, EOS, 0, 0]], BOS, EOS)
    assert found.tokens == (0, 5) and found.columns == (1, 2)


def test_phrase_across_a_chunk_boundary_is_found():
    prompt = content_tokens([[BOS, 1, 2, EOS], [BOS, 3, 4, EOS]], BOS, EOS)
    starts = find_phrase(prompt.tokens, (2, 3))
    assert starts == (1,) and prompt.columns_of(starts, 2) == (2, 5)


def test_all_occurrences_are_found_without_overlap():
    assert find_phrase((1, 1, 1, 2, 1, 1), (1, 1)) == (0, 4)
    assert find_phrase((1, 2), (1, 2, 3)) == () and find_phrase((1, 2), ()) == ()


def test_learned_embeddings_are_compared_by_value():
    vector = torch.arange(3.0)
    assert find_phrase((1, vector, 2), (vector.clone(), 2)) == (1,)
    assert find_phrase((1, vector, 2), (vector + 1, 2)) == ()


def test_starts_after_replacement_shift_by_the_difference_in_length():
    assert replaced_starts((1, 6), 2, 3) == (1, 7)


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
