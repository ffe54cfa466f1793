"""Fidelity, alignment and drift against plain loops; nouns by a stand-in encoder whose truth is known."""

from __future__ import annotations

import pytest
import torch
from tiny_clip import tiny_clip

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.evaluation.metrics import (
    class_nouns,
    drift,
    embed_each,
    image_similarity,
    load_image_encoder,
    mean_pairwise_cosine,
    prompt_alignment,
    rank_nouns,
    without_identifier,
)
from comfyui_personalize.core.model.image_text import load_image_text, unit

COLOURS = {"a red": (1.0, 0.0, 0.0), "a green": (0.0, 1.0, 0.0), "a blue": (0.0, 0.0, 1.0), "a white": (1.0, 1.0, 1.0)}


class ColourEncoder:
    """Pictures by their mean colour, texts by the colour that they name."""

    def embed_images(self, pixels):
        return unit(pixels.mean((1, 2)))

    def embed_texts(self, prompts):
        return unit(torch.tensor([COLOURS[prompt] for prompt in prompts]))


def picture(colour, height=8, width=8):
    return torch.tensor(COLOURS[colour]).expand(height, width, 3)


def test_mean_pairwise_cosine_is_the_double_loop():
    a, b = torch.randn(3, 7), torch.randn(4, 7)
    loop = [torch.cosine_similarity(x, y, dim=0) for x in a for y in b]
    assert mean_pairwise_cosine(a, b) == pytest.approx(float(torch.stack(loop).mean()), abs=1e-6)


def test_image_similarity_of_equal_and_of_opposite_pictures():
    red, green = picture("a red"), picture("a green", 12, 9)
    assert image_similarity(ColourEncoder(), [red, red], [red]) == pytest.approx(1)
    assert image_similarity(ColourEncoder(), [red], [green]) == pytest.approx(0, abs=1e-6)
    assert image_similarity(ColourEncoder(), [red, green], [red]) == pytest.approx(0.5)


def test_prompt_alignment_pairs_picture_and_prompt():
    pictures = [picture("a red"), picture("a green")]
    assert prompt_alignment(ColourEncoder(), pictures, ["a red", "a green"]) == pytest.approx(1)
    assert prompt_alignment(ColourEncoder(), pictures, ["a green", "a red"]) == pytest.approx(0, abs=1e-6)
    assert prompt_alignment(ColourEncoder(), pictures, ["a red"]) == pytest.approx(0.5)
    with pytest.raises(InputError, match="3 prompts for 2 pictures"):
        prompt_alignment(ColourEncoder(), pictures, ["a red"] * 3)


def test_drift_is_zero_without_change_and_positive_towards_the_subject():
    red, green = picture("a red"), picture("a green")
    assert drift(ColourEncoder(), [green], [red], before=[green]) == 0
    assert drift(ColourEncoder(), [red], [red], before=[green]) == pytest.approx(1)


def test_pictures_of_several_sizes_keep_their_order():
    pictures = [picture("a red"), picture("a green", 9), picture("a blue"), picture("a white", 9)]
    rows = embed_each(ColourEncoder(), pictures)
    assert torch.equal(rows, torch.cat([ColourEncoder().embed_images(p[None]) for p in pictures]))


def test_no_pictures_are_refused():
    with pytest.raises(InputError, match="references: got no picture"):
        image_similarity(ColourEncoder(), [picture("a red")], [])
    with pytest.raises(InputError, match="generated: got no picture"):
        image_similarity(ColourEncoder(), [], [picture("a red")])


@pytest.mark.parametrize("prompt, identifier, expected", [
    ("a sks dog in the snow", "sks", "a dog in the snow"), ("a ab cd dog", "ab cd", "a dog"),
    ("sks sks", "sks", ""), ("a dog", "sks", "a dog"), ("a dog", "", "a dog"), ("asks sks", "sks", "asks")])
def test_the_identifier_is_left_out_of_the_prompt(prompt, identifier, expected):
    assert without_identifier(prompt, identifier) == expected


def test_the_noun_of_the_pictures_comes_first_and_shares_sum_to_one():
    ranked = rank_nouns(ColourEncoder(), [picture("a red"), picture("a red", 16)], ["green", "red", "white", "red"])
    assert [score.noun for score in ranked] == ["red", "white", "green"]
    assert ranked[0].cosine == pytest.approx(1)
    assert sum(score.probability for score in ranked) == pytest.approx(1)


@pytest.mark.parametrize("change, message", [
    ({"photos": []}, "images: got no photo"), ({"nouns": ["red", "red"]}, "nouns: got 1 nouns"),
    ({"template": "a noun"}, "a text with {noun}")])
def test_questions_without_an_answer_are_refused(change, message):
    question = {"photos": [picture("a red")], "nouns": ["red", "green"]} | change
    with pytest.raises(InputError, match=message):
        rank_nouns(ColourEncoder(), **question)


def test_the_built_in_nouns_are_distinct_plain_words():
    nouns = class_nouns()
    assert len(nouns) == len(set(nouns)) > 300
    assert all(noun == noun.strip().lower() and noun.replace(" ", "").isalpha() for noun in nouns)


def test_clip_figures_of_a_real_structure_are_within_one(tmp_path):
    encoder, pictures = load_image_text(tiny_clip(tmp_path)), list(torch.rand(2, 32, 32, 3))
    assert image_similarity(encoder, pictures, pictures) <= 1 + 1e-6
    assert -1 <= prompt_alignment(encoder, pictures, ["a dog"]) <= 1
    assert len(rank_nouns(encoder, pictures, ["dog", "cat"])) == 2


def test_a_dino_folder_gives_the_class_token(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    model = Dinov2Model(Dinov2Config(**shape)).eval()
    model.save_pretrained(str(tmp_path))
    encoder, pixels = load_image_encoder(tmp_path), torch.rand(2, 28, 28, 3)
    with torch.no_grad():
        wanted = model(pixel_values=encoder.prepare(pixels)).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.embed_images(pixels), unit(wanted), atol=1e-5, rtol=0)
    assert image_similarity(encoder, list(pixels), list(pixels)) <= 1 + 1e-6


def test_a_clip_is_no_dino(tmp_path):
    with pytest.raises(InputError, match="a model of type 'clip'"):
        load_image_encoder(tiny_clip(tmp_path))
