"""Phrases among tokens and in texts."""

import pytest

from comfyui_personalize.core.dci.phrases import content_tokens, replace_phrase

BOS, EOS = 98, 99


def test_content_leaves_out_begin_end_and_padding_of_every_chunk():
    found = content_tokens([[BOS, 5, 6, EOS, EOS], [BOS, 7, EOS, 0, 0]], BOS, EOS)
    assert found.tokens == (5, 6, 7) and found.columns == (1, 2, 6) and found.length == 10


def test_padding_id_that_is_also_a_word_stays_a_word_in_the_content():
    found = content_tokens([[BOS, 0, 5, EOS, 0, 0]], BOS, EOS)
    assert found.tokens == (0, 5) and found.columns == (1, 2)


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
    ("sks", "tortoise plushy", "a sks (tortoise:1.2) plushy at sea", "a (cat:1.2) at sea"),
    ("sks", "tortoise plushy", "a (sks tortoise:1.2) plushy at sea", "a (cat:1.2) at sea"),
    ("sks", "tortoise plushy", "a sks (tortoise plushy:1.2), red", "a (cat:1.2), red"),
    ("sks", "tortoise plushy", "a sks tortoise (plushy:1.2), red", "a (cat:1.2), red"),
    ("sks", "tortoise plushy", "a ((sks:1.1) (tortoise:1.2)) plushy", "a ((cat:1.1) )"),
    ("sks", "tortoise plushy", "a sks (tortoise:1.2) (plushy:1.1)", "a (cat:1.2) "),
    ("sks ohwx", "dog", "a sks (ohwx:1.2) dog", "a (cat:1.2)"),
    (r"shu \(arknights\)", "", r"1girl, shu \(arknights\), solo", "1girl, cat, solo"),
    (r"shu \(arknights\)", "", r"1girl, (shu:1.2) \(arknights\)), solo", "1girl, (cat:1.2)), solo"),
    ("C++", "", "a C++, desert", "a cat, desert"), ("zkz!", "", "photo of zkz!, desert", "photo of cat, desert"),
])
def test_identifiers_and_nouns_of_several_words_and_signs(identifier, noun, prompt, expected):
    assert replace_phrase(prompt, identifier, noun, "cat") == (expected, 1)
