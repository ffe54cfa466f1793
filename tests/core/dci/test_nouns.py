"""Nouns that cannot stand in for the subject, and nouns that should not."""

import pytest

from comfyui_personalize.core.dci.nouns import (
    CATEGORIES,
    LIKE_THE_CLASS,
    PRESETS,
    allowed_nouns,
    auxiliary_noun_warning,
    category_of,
    check_auxiliary_noun,
    preset_nouns,
)
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


@pytest.mark.parametrize(("noun", "category"), [
    ("dog", "animal"), ("puppy", "animal"), ("Dogs", "animal"), ("sports car", "vehicle"), ("automobile", "vehicle"),
    ("rucksack", "bag"), ("mug", "kitchenware"), ("sneaker", "clothing"), ("zeppelin hangar", None), ("", None)])
def test_a_class_noun_is_found_in_its_category_also_by_a_synonym(noun, category):
    assert category_of(noun) == category


@pytest.mark.parametrize("category", CATEGORIES)
def test_presets_never_hold_the_class_noun_or_a_synonym_and_never_run_out(category):
    every = {noun for nouns in PRESETS.values() for noun in nouns}
    for noun in {"puppy", "zeppelin", "sports car", "rucksack", "", *every}:
        nouns = preset_nouns(noun, category)
        assert nouns and len(set(nouns)) == len(nouns)
        for other in nouns:
            check_auxiliary_noun(noun, other)
            assert auxiliary_noun_warning(noun, other) is None


def test_nouns_of_the_class_own_kind_come_first():
    assert preset_nouns("dog", LIKE_THE_CLASS)[0] == "cat" and preset_nouns("cat", LIKE_THE_CLASS)[0] == "dog"
    assert preset_nouns("rucksack", LIKE_THE_CLASS)[0] == "suitcase"
    assert preset_nouns("zeppelin", LIKE_THE_CLASS) == preset_nouns("zeppelin", "any")
    assert set(preset_nouns("dog", "plant")) == set(PRESETS["plant"])


def test_an_unknown_category_is_refused():
    with pytest.raises(InputError, match="category: got 'fruit', expected one of like the class noun"):
        preset_nouns("dog", "fruit")


def test_allowed_nouns_keep_order_and_drop_doubles_and_kin():
    assert allowed_nouns("dog", ["cat", " puppy", "cat", "", "red  car", "DOG"]) == ("cat", "red car")
