"""Prompts about one subject or several, and what DCI makes of them."""

import pytest

from comfyui_personalize.core.dci.subjects import DCISubject, SubjectPrompt, parse_subjects, plural
from comfyui_personalize.core.errors import InputError

DOG = DCISubject(identifier="sks", class_noun="dog", auxiliary_noun="cat")
BEAR = DCISubject(identifier="ohwx", class_noun="teddy bear", auxiliary_noun="rubber duck")


def prompt(text, *subjects, **settings):
    return SubjectPrompt(prompt=text, subjects=subjects or (DOG,), **settings)


@pytest.mark.parametrize(("noun", "expected"), [
    ("dog", "dogs"), ("tortoise plushy", "tortoise plushies"), ("toy", "toys"), ("box", "boxes"), ("bus", "buses"),
    ("wolf", "wolves"), ("old Man", "old men"), ("watch", "watches"), ("sheep", "sheep"),
])
def test_plurals(noun, expected):
    assert plural(noun) == expected


def test_plural_subjects_become_plural_auxiliary_nouns():
    assert prompt("two sks dogs and a sks dog").auxiliary_texts == ("two cats and a cat",)


def test_one_auxiliary_prompt_replaces_all_subjects():
    both = prompt("a (sks dog:1.2) beside a ohwx teddy bear", DOG, BEAR)
    assert both.auxiliary_texts == ("a (cat:1.2) beside a rubber duck",)
    assert both.concept_branch == both.texts and both.auxiliary_branch == both.auxiliary_texts


def test_a_second_text_is_replaced_as_well():
    assert prompt("a sks dog", prompt_l="oil painting of sks dog").auxiliary_texts == ("a cat", "oil painting of cat")


@pytest.mark.parametrize(("text", "rest"), [
    ("sks dog carved from ice", "carved from ice"), ("a photo of a sks dog at sea", "a photo of at sea"),
    ("the (sks dog:1.3) in the sun", "in the sun"), ("a sks dog", ""),
])
def test_split_prompts_give_each_branch_its_own_part(text, rest):
    split = prompt(text, split=True)
    assert split.concept_branch == ("sks dog",) and split.auxiliary_branch == (rest,)


def test_split_prompts_of_several_subjects_name_them_all():
    split = prompt("a sks dog and a ohwx teddy bear at sea", DOG, BEAR, split=True)
    assert split.concept_branch == ("sks dog, ohwx teddy bear",) and split.auxiliary_branch == ("and at sea",)


def test_lists_give_subjects_in_order_and_one_auxiliary_noun_serves_all():
    assert parse_subjects("sks, ohwx", "dog, teddy bear", "cat, rubber duck") == (DOG, BEAR)
    assert [one.auxiliary_noun for one in parse_subjects("sks, ohwx", "dog, bear", "cat")] == ["cat", "cat"]


@pytest.mark.parametrize(("lists", "name"), [
    (("sks, ohwx", "dog", "cat"), "class_noun"), (("sks", "dog", "cat, bird"), "auxiliary_noun"),
    (("sks, ", "dog, cat", "bird"), "identifier"), (("sks, ohwx", "dog, cat", "cat"), "auxiliary_noun"),
])
def test_lists_that_do_not_fit_are_refused_by_name(lists, name):
    with pytest.raises(InputError) as error:
        parse_subjects(*lists)
    assert error.value.name == name


def test_the_same_subject_twice_is_refused():
    with pytest.raises(InputError, match="another phrase for every subject"):
        prompt("a sks dog", DOG, DOG)
