"""The score of the Auxiliary Noun Picker's mode 'prior' means something: on the pocket model, where truth is known."""

from __future__ import annotations

import random

import comfy.sd
import pytest
import torch

from comfyui_personalize.core.dci.noun_scores import context_gain
from comfyui_personalize.nodes.bridge.dci.noun_evidence import denoising_errors
from comfyui_personalize.pocket import world
from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket
from comfyui_personalize.pocket.world_scenes import PHRASES


@pytest.fixture(scope="module")
def pocket():
    register_pocket()
    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(CHECKPOINTS / "pocket.safetensors"))[:3]


def test_the_right_context_explains_a_picture_better_than_none_and_a_wrong_one_worse(pocket):
    model, clip, vae = pocket
    scenes = [world.training_scene(seed) for seed in world.SEEDS["held_out_scenes"][:8]]
    scenes = [scene for scene in scenes if scene.context != "plain"][:4]
    gains = {"right": [], "wrong": []}
    with torch.inference_mode():
        for number, scene in enumerate(scenes):
            pixels = torch.from_numpy(world.render(scene)[0].copy())[None].float() / 255
            latents = vae.encode(pixels)
            other = random.Random(number).choice([each for each in PHRASES if each not in ("plain", scene.context)])
            prompts = {"none": f"a {scene.look.noun}", "right": f"a {scene.look.noun} {PHRASES[scene.context]}",
                       "wrong": f"a {scene.look.noun} {PHRASES[other]}"}
            errors = {name: denoising_errors(model, clip, latents, text, 0) for name, text in prompts.items()}
            for name, found in gains.items():
                found.append(float(context_gain(errors["none"], errors[name])))
    assert all(right > wrong for right, wrong in zip(gains["right"], gains["wrong"], strict=True))
    assert sum(gains["right"]) > 0 > max(gains["wrong"])
