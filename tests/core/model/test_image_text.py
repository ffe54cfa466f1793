"""An image-text encoder of random weights in transformers' format: units, gradients, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_clip import tiny_clip
from torch import nn

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.model.image_text import Preparation, load_image_text, projection_flaw


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load_image_text(folder)


def reference(folder, **inputs):
    from transformers import CLIPModel

    with torch.no_grad():
        return CLIPModel.from_pretrained(str(folder))(**inputs)


def test_images_and_texts_are_what_transformers_own_model_gives(folder, encoder):
    from transformers import CLIPTokenizer

    pixels = torch.rand(2, 40, 32, 3)
    prompts = ["a dog", "a red dog in the snow"]
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    tokens = tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt")
    output = reference(folder, input_ids=tokens["input_ids"], pixel_values=encoder.prepare(pixels))
    torch.testing.assert_close(encoder.embed_images(pixels), output.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed_texts(prompts), output.text_embeds, atol=1e-5, rtol=0)


def test_preparation_matches_the_processor_of_the_folder(folder):
    from PIL import Image
    from transformers import CLIPImageProcessor

    picture = (torch.rand(64, 96, 3) * 255).byte()  # a size without rounding: ComfyUI and transformers differ there
    wanted = CLIPImageProcessor.from_pretrained(str(folder))(Image.fromarray(picture.numpy()), return_tensors="pt")
    ours = Preparation.of_folder(folder, 224)(picture[None].float() / 255)
    assert ours.shape == (1, 3, 32, 32)
    assert (ours - wanted["pixel_values"]).abs().mean() < 0.02


def test_ids_as_vectors_of_the_table_change_nothing(encoder):
    ids = encoder.tokenize("a red dog")
    vectors = list(encoder.token_vectors("a red dog"))
    mixed = [[ids[0], vectors[1], ids[2]], vectors]
    expected = encoder.embed_texts(["a red dog"]).expand(2, -1)
    torch.testing.assert_close(encoder.embed_tokens(mixed), expected, atol=1e-6, rtol=0)


def test_a_batch_is_its_rows_one_by_one(encoder):
    rows = [encoder.tokenize("a dog"), [], encoder.tokenize("a very long line about a red dog")]
    together = encoder.embed_tokens(rows)
    alone = torch.cat([encoder.embed_tokens([row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))


def test_gradients_reach_the_vectors_and_nothing_else(encoder):
    vectors = torch.randn(2, encoder.token_width, requires_grad=True)
    row = [*vectors, *encoder.tokenize("dog")]
    encoder.embed_tokens([row])[0, 0].backward()
    assert bool((vectors.grad.abs().sum(-1) > 0).all())
    assert all(p.grad is None for p in encoder.model.parameters())


def test_gradients_reach_an_adapter_inside_the_text_tower(folder):
    from peft import LoraConfig, inject_adapter_in_model

    encoder = load_image_text(folder)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False), encoder._text)
    encoder.embed_texts(["a dog"])[0, 0].backward()
    grown = [p.grad for name, p in encoder._text.named_parameters() if "lora_" in name]
    assert grown and all(g is not None and g.abs().sum() > 0 for g in grown)


def test_too_many_tokens_and_vectors_of_another_width_are_refused(encoder):
    with pytest.raises(InputError, match="76 tokens"):
        encoder.embed_tokens([[320] * 76])
    with pytest.raises(InputError, match="token vector: got shape"):
        encoder.embed_tokens([[torch.zeros(encoder.token_width + 1)]])
    assert encoder.embed_texts(["word " * 200]).shape[0] == 1


def uninitialised(size: int) -> torch.Tensor:
    """What memory that was never written looks like: zeros with a few remains."""
    matrix = torch.zeros(size, size)
    matrix[0, :8] = 1e-3
    return matrix


@pytest.mark.parametrize("weight, flaw", [
    (None, "no projection"),
    (torch.zeros(32, 32), "zeros"),
    (torch.eye(768), "identity"),
    (0.5 * torch.eye(32), "identity"),
    (torch.full((32, 32), torch.nan), "finite"),
    (torch.ones(64, 32), "rank 1"),
    (uninitialised(64), "rank 1"),
])
def test_degenerate_projections_are_found(weight, flaw):
    assert flaw in (projection_flaw(weight) or "")


@pytest.mark.parametrize("shape", [(32, 32), (64, 128), (128, 64), (768, 768)])
def test_sound_projections_of_every_width_pass(shape):
    assert projection_flaw(nn.Linear(shape[1], shape[0]).weight) is None


def test_a_folder_without_text_projection_is_refused(tmp_path):
    folder = tiny_clip(tmp_path, drop="text_projection.weight")
    with pytest.raises(InputError, match=r"without text_projection\.weight, expected a CLIP with both projections"):
        load_image_text(folder)


def test_a_folder_with_a_zero_projection_is_refused(tmp_path):
    folder = tiny_clip(tmp_path, zero="text_projection.weight")
    with pytest.raises(InputError, match="a projection of zeros"):
        load_image_text(folder)


def test_other_folders_are_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_image_text(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json, which cannot be read"):
        load_image_text(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    with pytest.raises(InputError, match="'siglip'"):
        load_image_text(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(InputError, match="whole transformers CLIP folder"):
        load_image_text(tmp_path)
