"""The score of the Auxiliary Noun Picker's mode 'prior' means something: on the pocket model, where truth is known."""

from __future__ import annotations

import random

import comfy.sd
import pytest
import torch

from comfyui_personalize.core.dci.noun_scores import context_gain
from comfyui_personalize.nodes.bridge.dci.noun_evidence import denoising_errors
from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket
from comfyui_personalize.pocket.subjects import PHRASES, held_out_pictures


@pytest.fixture(scope="module")
def pocket():
    register_pocket()
    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(CHECKPOINTS / "pocket.safetensors"))[:3]


def test_the_right_context_explains_a_picture_better_than_none_and_a_wrong_one_worse(pocket):
    model, clip, vae = pocket
    gains = {"right": [], "wrong": []}
    with torch.inference_mode():
        for number, shown in enumerate(held_out_pictures(4)):
            pixels = torch.from_numpy(shown.pixels.copy())[None].float() / 255
            latents = vae.encode(pixels)
            other = random.Random(number).choice([each for each in PHRASES if each not in ("plain", shown.context)])
            prompts = {"none": f"a {shown.noun}", "right": f"a {shown.noun} {PHRASES[shown.context]}",
                       "wrong": f"a {shown.noun} {PHRASES[other]}"}
            errors = {name: denoising_errors(model, clip, latents, text, 0) for name, text in prompts.items()}
            for name, found in gains.items():
                found.append(float(context_gain(errors["none"], errors[name])))
    assert all(right > wrong for right, wrong in zip(gains["right"], gains["wrong"], strict=True))
    assert sum(gains["right"]) > 0 > max(gains["wrong"])
