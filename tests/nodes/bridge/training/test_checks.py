"""What the trainer says of a request before it trains."""

from __future__ import annotations

import pytest
import torch
from comfy.sd1_clip import SD1Tokenizer
from comfy.text_encoders.z_image import ZImageTokenizer

from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.core.training.config import TrainingConfig
from comfyui_personalize.nodes.bridge.training.checks import warnings_about_identifiers
from comfyui_personalize.nodes.bridge.training.request import Request


class TokenizersOnly:
    """A CLIP without weights."""

    def __init__(self, tokenizer):
        self.tokenizer, self.tokenize, self.cond_stage_model = tokenizer, tokenizer.tokenize_with_weights, None


CLIP, QWEN = TokenizersOnly(SD1Tokenizer()), TokenizersOnly(ZImageTokenizer())


def warnings(clip, identifier, **config):
    photo = Photo(pixels=torch.rand(8, 8, 3))
    subject = Subject(identifier=identifier, class_noun="dog", photos=(photo,))
    return warnings_about_identifiers(Request(model=None, clip=clip, vae=None, subjects=(subject, subject),
                                              config=TrainingConfig(steps=1, **config), run_name="test"))


@pytest.mark.parametrize(("clip", "identifier", "said"), [
    (CLIP, "sks", []), (QWEN, "scn", []),
    (CLIP, "scn", ["identifier 'scn' splits into 2 common pieces in clip_l (sc | n). Take one that the identifier "
                   "picker ranks."]),
    (CLIP, "dog", [])], ids=["sks in CLIP", "scn in Qwen", "scn in CLIP", "an English word, which Subject Photos says"])
def test_identifiers_are_read_by_the_loaded_text_encoders(clip, identifier, said):
    assert warnings(clip, identifier) == said


def test_a_word_with_vectors_of_its_own_is_not_read():
    learned = (TokenVectorsConfig(word="scn", start_text="dog"),)
    assert warnings(CLIP, "scn", token_vectors=learned) == []
