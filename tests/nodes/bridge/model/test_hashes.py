"""The digest of a loaded MODEL depends on values, patches and strengths, not on storage."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.sd
import comfy.utils
import pytest
import torch
from comfy.patcher_extension import PatcherInjection
from tiny_model import tiny_models

from comfyui_personalize.nodes.bridge.model.hashes import model_hash, tensor_digest

pytestmark = pytest.mark.usefixtures("inference_mode")


def test_the_hash_tells_injections_of_one_name_apart(models):
    def injected() -> Any:
        patcher = models[0].clone()
        patcher.set_injections("bypass_lora", [PatcherInjection(inject=print, eject=print)])
        return patcher

    first, second = injected(), injected()
    assert model_hash(first) == model_hash(first.clone()) != model_hash(second) != model_hash(models[0])


def test_the_hash_is_the_same_for_another_copy_in_another_dtype():
    first, second = tiny_models(), tiny_models()
    assert model_hash(first[0]) == model_hash(second[0])
    assert model_hash(first[1].patcher) == model_hash(second[1].patcher)
    assert tensor_digest(torch.ones(3).half()) == tensor_digest(torch.ones(3)) != tensor_digest(torch.ones(1, 3))


def test_the_hash_sees_other_weights_patches_and_strengths(models):
    lora = {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.ones(64, 1),
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.ones(1, 64)}
    hashes = {model_hash(comfy.sd.load_lora_for_models(models[0], None, lora, strength, 0)[0])
              for strength in (1.0, 0.5)}
    again = comfy.sd.load_lora_for_models(models[0], None, lora, 1.0, 0)[0]
    assert len(hashes | {model_hash(models[0]), model_hash(tiny_models(seed=1)[0])}) == 4
    assert model_hash(again) in hashes


def test_the_hash_is_the_same_while_patches_are_loaded(models):
    lora = {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.ones(64, 1),
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.ones(1, 64)}
    patched = comfy.sd.load_lora_for_models(models[0], None, lora, 1.0, 0)[0]
    before = model_hash(models[0].clone())
    comfy.model_management.load_models_gpu([patched])
    fresh = models[0].clone()
    fresh.patches_uuid = "another"
    assert model_hash(fresh) == before
