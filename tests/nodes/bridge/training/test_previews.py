"""Whom a preview shows: the subjects' words stand in the places of its prompt."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.bridge.training.previews import named_preview


def subject(identifier: str, noun: str) -> Subject:
    return Subject(identifier=identifier, class_noun=noun, photos=(Photo(pixels=torch.zeros(8, 8, 3)),))


def prompt_of(text: str, *subjects: Subject) -> str:
    return named_preview(PreviewSettings(prompt=text), subjects).prompt


def test_places_are_the_subjects_words():
    dog, cat = subject("sks", "dog"), subject("ohwx", "cat")
    assert prompt_of("a {V} {noun} in the snow", dog) == "a sks dog in the snow"
    assert prompt_of("a {V1} {noun1} and a {V2} {noun2}", dog, cat) == "a sks dog and a ohwx cat"


@pytest.mark.parametrize("text", ["a sks dog", "a {noun} alone", "a dog"])
def test_a_prompt_without_places_stays(text):
    assert prompt_of(text, subject("sks", "dog")) == text


def test_no_preview_stays_none():
    assert named_preview(None, [subject("sks", "dog")]) is None


def test_a_place_of_a_subject_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="places of 1 subjects at most"):
        prompt_of("a {V} {noun} and a {V2} {noun2}", subject("sks", "dog"))
