"""Nouns that cannot stand in for the subject, and nouns that should not."""

import pytest

from comfyui_personalize.core.dci.nouns import auxiliary_noun_warning, check_auxiliary_noun
from comfyui_personalize.core.errors import InputError


@pytest.mark.parametrize("noun", ["dog", " Dog ", "DOG", "ｄｏｇ", "  "])
def test_auxiliary_noun_equal_to_the_noun_or_empty_is_refused(noun):
    with pytest.raises(InputError, match="auxiliary_noun"):
        check_auxiliary_noun("dog", noun)


@pytest.mark.parametrize(("noun", "auxiliary", "words"), [
    ("dog", "puppies", "much the same"), ("dog", "Dogs", "another number"),
    ("toy car", "car", "shares 'car'"), ("tortoise plushy", "tortoise", "shares"),
    ("backpack", "rucksack", "much the same"), ("box", "boxes", "number"),
    ("glasses", "sunglasses", "much the same"), ("sports car", "vehicles", "much the same"),
])
def test_synonyms_and_shared_words_are_warned_about(noun, auxiliary, words):
    assert words in auxiliary_noun_warning(noun, auxiliary)


@pytest.mark.parametrize(("noun", "auxiliary"), [("dog", "cat"), ("car", "carpet"), ("toy car", "boat"),
                                                 ("", "cat")])
def test_other_nouns_pass_without_a_warning(noun, auxiliary):
    check_auxiliary_noun(noun, auxiliary)
    assert auxiliary_noun_warning(noun, auxiliary) is None
