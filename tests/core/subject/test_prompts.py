"""The papers' prompts are all there, each names the subject, and bad templates are refused."""

import json

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.prompts import KINDS, check_places, fill_prompts, fill_subjects, subject_prompts
from comfyui_personalize.tools.install_comfyui import ROOT


@pytest.mark.parametrize(("kind", "name"), [("objects (DreamBooth's 25)", "object"),
                                            ("live subjects (DreamBooth's 25)", "live")])
def test_the_datasets_evaluation_prompts_are_those_of_its_file(kind, name):
    path = ROOT.parent / "shared" / "photos" / "prompts.json"
    if not path.exists():
        pytest.skip("the dataset's prompts do not lie beside the checkout")
    assert list(KINDS[kind]) == json.loads(path.read_text(encoding="utf-8"))[name]


@pytest.mark.parametrize("kind", KINDS)
def test_every_prompt_names_the_subject_once_and_none_is_there_twice(kind):
    prompts = subject_prompts(kind, "sks", "dog")
    assert len(set(prompts)) == len(prompts) == len(KINDS[kind])
    assert all(prompt.count("sks dog") == 1 for prompt in prompts)


def test_without_an_identifier_they_are_the_classs_own():
    assert subject_prompts("properties", "", "dog", count=1) == ("a red dog",)


def test_count_takes_the_first():
    assert subject_prompts("accessories", "sks", "dog", 3) == subject_prompts("accessories", "sks", "dog")[:3]


@pytest.mark.parametrize(("arguments", "message"), [
    (("weather", "sks", "dog"), "kind: got 'weather', expected one of"),
    (("properties", "sks", " "), "class_noun: got an empty text"),
    (("properties", "sks", "dog", -1), "count: got -1")])
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        subject_prompts(*arguments)


def test_a_template_without_a_place_for_the_subject_is_refused():
    with pytest.raises(InputError, match="prompts: got 'a dog', expected a text with {V} or {noun}"):
        fill_prompts(["a dog"], "sks", "dog")


def test_a_template_that_leaves_embedding_without_a_name_is_refused():
    assert fill_prompts(["embedding:{V} {noun}"], "zkz", "dog") == ("embedding:zkz dog",)
    with pytest.raises(InputError, match="prompts: got 'embedding:' without a name"):
        fill_prompts(["a embedding:{V}, {noun}"], "", "dog")


@pytest.mark.parametrize(("prompt", "expected"), [
    ("a {V} {noun} in the snow", "a cek dog in the snow"), ("{V} on a beach", "cek on a beach"),
    ("a {V1} {noun1} and a {V2} {noun2}", "a cek dog and a zkz toy car"), ("a {V2} alone", "a zkz alone")])
def test_places_of_subjects_become_their_words(prompt, expected):
    assert fill_subjects(prompt, ["cek", " zkz"], ["dog", "toy car"]) == expected


@pytest.mark.parametrize("prompt", ["", "a dog in the snow", "a {noun}", "a V dog", "a {v} dog"])
def test_a_prompt_without_a_place_for_the_subject_is_refused(prompt):
    with pytest.raises(InputError, match=r"^prompt: got .*expected a text with \{V\}"):
        check_places(prompt)


def test_a_place_of_a_subject_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"\{V2\}.*1 subjects"):
        fill_subjects("a {V} and a {V2}", ["cek"], ["dog"])
