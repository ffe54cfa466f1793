"""The pocket's image-text encoder: the checkpoint's text side and one small file."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from safetensors import safe_open

from comfyui_personalize.pocket import image_text
from comfyui_personalize.pocket.rare_words import tokenizer_folder

needs_files = pytest.mark.skipif(
    not (image_text.IMAGE_TEXT_FILE.exists() and image_text.CHECKPOINT.exists()
         and (tokenizer_folder() / "vocab.json").exists()), reason="lacks the pocket model's files")


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


def test_two_that_ask_at_once_wait_for_one_folder(tmp_path, monkeypatch):
    """As two processes do: each holds the lock by a file of its own."""
    made = []

    def write(place, tokenizer):
        made.append(place)
        time.sleep(0.2)  # the other comes meanwhile

    monkeypatch.setattr(image_text, "write_transformers", write)
    both = [threading.Thread(target=image_text.transformers_folder, args=(tmp_path, tmp_path)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert made == [tmp_path] and (tmp_path / image_text.STAMP).read_text()
