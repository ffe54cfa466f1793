"""Encoding with gradients gives ComfyUI's own rows, and CLIP is left as it was."""

from __future__ import annotations

import comfy.lora
import pytest
import torch
from tiny_model import tiny_models

from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.text.adapter_keys import text_adapter_keys
from comfyui_personalize.nodes.bridge.text.encoder import (
    ComfyTextEncoder,
    encode,
    encode_with_gradients,
    out_of_place_layers,
)

pytestmark = pytest.mark.usefixtures("inference_mode")
LONG = "a sks dog " + " ".join(f"word{number}" for number in range(90))
PROMPTS = ["a sks dog", "", "a (sks:1.4) dog, [plain] (deep (er))", LONG, f"({LONG}:0.7)", "plüsch 熊"]


@pytest.fixture(scope="module")
def clip():
    return tiny_models()[1]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_rows_with_gradients_equal_comfyuis_own(clip, prompt):
    expected = encode(clip, prompt)
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model):
        row = encode_with_gradients(clip, prompt)
    assert torch.allclose(row.context, expected.context, atol=1e-5)
    assert torch.allclose(row.pooled, expected.pooled, atol=1e-5)


def test_clip_skip_counts(clip):
    skipped = clip.clone()
    skipped.clip_layer(-2)
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model):
        row = encode_with_gradients(skipped, "a sks dog")
        whole = encode_with_gradients(clip, "a sks dog")
    assert torch.allclose(row.context, encode(skipped, "a sks dog").context, atol=1e-5)
    assert not torch.allclose(row.context, whole.context, atol=1e-3)


def test_gradients_reach_the_weights_only_inside_the_context(clip):
    with trainable(clip.patcher):
        weight = clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers[0].self_attn.q_proj.weight
        weight.requires_grad_(True)
        with out_of_place_layers(clip.cond_stage_model):
            encode_with_gradients(clip, "a sks dog").context.float().square().mean().backward()
            assert weight.grad is not None and float(weight.grad.abs().sum()) > 0
        weight.requires_grad_(False)
        weight.grad = None
    layers = clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers
    assert not any("forward" in vars(layer) for layer in layers)


def test_the_layers_are_restored_after_an_error(clip):
    with pytest.raises(KeyError), out_of_place_layers(clip.cond_stage_model):
        raise KeyError
    layers = clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers
    assert not any("forward" in vars(layer) for layer in layers)


def test_frozen_prompts_are_encoded_once_and_kept_on_disk(clip, tmp_path, monkeypatch):
    first = ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a sks dog"])[0]
    monkeypatch.setattr(clip, "encode_from_tokens", lambda *_, **__: pytest.fail("encoded again"))
    again = ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a sks dog"])[0]
    assert torch.equal(first.context, again.context) and torch.equal(first.pooled, again.pooled)
    with pytest.raises(pytest.fail.Exception):
        ComfyTextEncoder(clip, cache=(tmp_path, "another hash")).encode(["a sks dog"])


def test_another_family_that_reads_the_same_weights_finds_no_text_of_this_one(clip, tmp_path, monkeypatch):
    """Z-Image and Flux.2 klein have one text encoder, read through other templates and layers by other classes."""
    ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a dog"])
    tokenize, calls = clip.tokenize, []
    monkeypatch.setattr(clip, "encode_from_tokens", lambda *_, **__: calls.append(1) or {"cond": torch.ones(1, 4, 8)})
    with monkeypatch.context() as other_template:
        other_template.setattr(clip, "tokenize", lambda text: tokenize(f"user: {text}"))
        ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a dog"])
    assert len(calls) == 1
    stock = type(clip.cond_stage_model)
    with monkeypatch.context() as other_class:
        other_class.setattr(clip.cond_stage_model, "__class__", type("OtherLayers", (stock,), {}))
        ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a dog"])
    assert len(calls) == 2
    ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a dog"])
    assert len(calls) == 2, "the first family finds its own text again"


def test_prompts_with_textual_inversions_are_never_kept_on_disk(clip, tmp_path):
    ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a embedding:dog"])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_keys_are_what_stock_loraloader_maps_to_the_same_layer(clip):
    module = clip.cond_stage_model
    theirs = comfy.lora.model_lora_keys_clip(module, {})
    layers = {path: stem for path, stem in text_adapter_keys(module).items()
              if isinstance(module.get_submodule(path), torch.nn.Linear) and ".layers." in path}
    assert len(layers) == 12
    assert all(theirs[stem] == f"{path}.weight" and stem.startswith("lora_te_") for path, stem in layers.items())


def test_two_encoders_get_numbered_keys():
    module = torch.nn.Module()
    for name in ("clip_l", "clip_g"):
        add_layer(module, f"{name}.transformer.text_model.encoder.layers.0.mlp.fc1")
        add_layer(module, f"{name}.transformer.text_model.embeddings.token_embedding")
    keys = text_adapter_keys(module)
    for number, name in enumerate(("clip_l", "clip_g"), 1):
        inside = f"{name}.transformer.text_model"
        assert keys[f"{inside}.encoder.layers.0.mlp.fc1"] == f"lora_te{number}_text_model_encoder_layers_0_mlp_fc1"
        assert keys[f"{inside}.embeddings.token_embedding"] == f"text_encoders.{inside}.embeddings.token_embedding"


def add_layer(module, path):
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in module._modules:
            module.add_module(parent, torch.nn.Module())
        module = module._modules[parent]
    module.add_module(name, torch.nn.Linear(1, 1))


def test_everything_that_the_encoder_returns_is_kept_in_memory_and_on_disk(clip, tmp_path, monkeypatch):
    """But hooks. What an earlier version kept of an encoder that is not CLIP's lacks the rest, and is not read."""
    found = {"cond": torch.ones(1, 4, 8), "pooled_output": None, "attention_mask": torch.ones(1, 4, dtype=torch.long),
             "t5xxl_ids": torch.arange(7), "hooks": object()}
    calls = []
    monkeypatch.setattr(clip, "tokenize", lambda text: {"qwen3_4b": [[]]})
    monkeypatch.setattr(clip, "encode_from_tokens", lambda *_, **__: calls.append(1) or dict(found))
    for _ in range(2):
        row = ComfyTextEncoder(clip, cache=(tmp_path, "hash")).encode(["a sks dog"])[0]
        assert set(row.extra) == {"attention_mask", "t5xxl_ids"} and row.pooled is None
        assert all(torch.equal(value, found[name]) for name, value in row.extra.items())
    assert calls == [1]


def test_a_row_that_no_file_can_hold_is_kept_in_memory_alone(clip, tmp_path, monkeypatch):
    found = {"cond": torch.ones(1, 4, 8), "pooled_output": None, "guidance": 4.0}
    calls = []
    monkeypatch.setattr(clip, "encode_from_tokens", lambda *_, **__: calls.append(1) or dict(found))
    encoder = ComfyTextEncoder(clip, cache=(tmp_path, "hash"))
    assert [row.extra for row in encoder.encode(["a sks dog", "a sks dog"])] == [{"guidance": 4.0}] * 2
    assert calls == [1] and not list(tmp_path.rglob("*.safetensors"))
