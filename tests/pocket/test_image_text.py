"""The pocket's image-text encoder: the checkpoint's text side and one small file, and good on held-out seeds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

from comfyui_personalize.pocket import image_text
from comfyui_personalize.pocket.config import VISION_CONFIG
from comfyui_personalize.pocket.names import tokenizer_folder

needs_files = pytest.mark.skipif(
    not (image_text.IMAGE_TEXT_FILE.exists() and image_text.CHECKPOINT.exists()
         and (tokenizer_folder() / "vocab.json").exists()), reason="lacks the pocket model's files")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from comfyui_personalize.pocket.image_text_figures import load_model

    return load_model(str(image_text.transformers_folder(tmp_path_factory.mktemp("clip"))))


@needs_files
def test_the_text_side_is_the_generators_own_to_the_bit():
    joined = image_text.model_tensors()
    with safe_open(image_text.CHECKPOINT, "pt") as file:
        keys = [key for key in file.keys() if key.startswith(image_text.TEXT_PREFIX)]  # noqa: SIM118
        assert keys and all(torch.equal(joined[key.removeprefix(image_text.TEXT_PREFIX)], file.get_tensor(key))
                            for key in keys)


@needs_files
def test_the_committed_file_holds_no_text_tower_and_is_small():
    with safe_open(image_text.IMAGE_TEXT_FILE, "pt") as file:
        keys = set(file.keys())
    assert not any(key.startswith("text_model") for key in keys)
    assert {"text_projection.weight", "visual_projection.weight", "logit_scale"} <= keys
    assert image_text.IMAGE_TEXT_FILE.stat().st_size <= 2.5 * 10**6


@needs_files
def test_transformers_finds_every_tensor(tmp_path):
    from transformers import CLIPModel

    _, notes = CLIPModel.from_pretrained(str(image_text.transformers_folder(tmp_path)), output_loading_info=True)
    assert not notes["missing_keys"] and not notes["unexpected_keys"]


@needs_files
def test_held_out_pictures_are_classified_by_prompts(model):
    from comfyui_personalize.pocket.evaluate import held_out_captions, stack
    from comfyui_personalize.pocket.image_text_figures import embed_images, zero_shot

    scenes = held_out_captions(100, start=400_000)
    found = zero_shot(model, embed_images(model, stack(scenes).permute(0, 3, 1, 2)), scenes)
    assert found["noun"] >= 0.85 and found["context"] >= 0.95 and found["colour"] >= 0.8


@needs_files
def test_pictures_of_one_held_out_subject_are_more_alike_than_of_its_class(model):
    from comfyui_personalize.pocket.evaluate import stack
    from comfyui_personalize.pocket.image_text_figures import embed_images
    from comfyui_personalize.pocket.world import subject_scenes

    scenes = [scene for seed in range(12) for scene in subject_scenes(seed, 2, "dog")]
    rows = embed_images(model, stack(scenes).permute(0, 3, 1, 2)).view(12, 2, -1)
    cosine = rows[:, 0] @ rows[:, 1].T
    others = cosine[~torch.eye(12, dtype=torch.bool)]
    assert cosine.diagonal().mean() > others.mean() + 0.1


@needs_files
def test_the_cards_figures_are_those_of_this_file():
    from comfyui_personalize.pocket.evaluate import FIGURES

    figures = json.loads(FIGURES.read_text())["image_text"]
    assert figures["raw"]["zero_shot"]["noun"] >= 0.85 and figures["raw"]["retrieval"]["image_to_text"] >= 0.8


@pytest.mark.parametrize("captions", [["a", "b", "c", "d"], ["a", "b", "a", "c"]])
def test_the_contrast_is_clips_and_equal_captions_are_no_negatives(captions):
    from comfyui_personalize.pocket.image_text_training import contrast

    torch.manual_seed(0)
    images, texts = (functional.normalize(torch.randn(4, 8), dim=-1) for _ in range(2))
    losses = []
    for first, second in ((images, texts), (texts, images)):
        for i in range(4):
            others = [10 * first[i] @ second[j] for j in range(4) if j == i or captions[j] != captions[i]]
            losses.append(torch.stack(others).logsumexp(0) - 10 * first[i] @ second[i])
    expected = torch.stack(losses).mean()
    assert torch.allclose(contrast(images, texts, captions, torch.tensor(10.0)), expected, atol=1e-5)


@needs_files
def test_samples_say_what_they_show_and_never_use_held_out_seeds():
    from comfyui_personalize.pocket import image_text_training as training
    from comfyui_personalize.pocket.world import SEEDS

    samples = [training.draw_sample(training.FIRST_SEED + i, np.random.default_rng(i)) for i in range(60)]
    assert all(s.noun in s.caption.split() and s.picture.shape == (96, 96, 3) for s in samples)
    assert any(s.name and s.name in s.caption.split() for s in samples)
    assert training.FIRST_SEED in SEEDS["train"] and len(training.strangers()) > 5000
    assert VISION_CONFIG["image_size"] == 96
