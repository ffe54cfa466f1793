"""Two spellings are one word where every loaded text encoder reads the same tokens."""

from __future__ import annotations

import pytest
import torch
from families import family_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.nodes.bridge.text.same_word import check_spelling, has_same_word, is_same_word, same_words

pytestmark = pytest.mark.usefixtures("inference_mode")
FAMILIES = ("sd15", "sdxl", "sd3", "flux")


@pytest.fixture(scope="module")
def clips():
    return {name: family_models(name)[1] for name in FAMILIES}


def subject(caption):
    return Subject(identifier="zkz", class_noun="dog", photos=(Photo(pixels=torch.rand(16, 16, 3), caption=caption),))


@pytest.mark.parametrize(("family", "alike"), zip(FAMILIES, (True, True, False, False), strict=True))
def test_case_is_nothing_to_clip_and_something_to_t5(clips, family, alike):
    assert is_same_word(clips[family], "zkz", "Zkz") is is_same_word(clips[family], "XQ zt", "xq zt") is alike
    assert same_words(clips[family], ["zkz", "tqz", "ZKZ"]) == (
        [["zkz", "ZKZ"], ["tqz"]] if alike else [["zkz"], ["tqz"], ["ZKZ"]])
    assert not is_same_word(clips[family], "zkz", "zkzz")


def test_names_of_files_that_are_not_there_are_not_one_word(clips):
    assert not is_same_word(clips["sd15"], "embedding:one", "embedding:two")
    assert is_same_word(clips["sd15"], "embedding:one", "embedding:one")


def test_a_text_names_a_word_in_a_spelling_that_is_read_alike(clips):
    assert has_same_word(clips["sd15"], "a photo of ZKZ.", "zkz") and not has_same_word(clips["sd15"], "zkzz", "zkz")
    assert has_same_word(clips["flux"], "Zkz, zkz", "zkz") and not has_same_word(clips["flux"], "Zkz", "zkz")


def test_captions_whose_identifier_is_another_word_for_t5_are_refused_by_name(clips):
    check_spelling(clips["sdxl"], [subject("Zkz dog on a beach")])
    check_spelling(clips["flux"], [subject("Zkz dog is a zkz dog")])
    for family in ("sd3", "flux"):
        with pytest.raises(InputError, match="captions: got 'Zkz dog on a beach', whose 'Zkz' is another word than"):
            check_spelling(clips[family], [subject("Zkz dog on a beach")])
