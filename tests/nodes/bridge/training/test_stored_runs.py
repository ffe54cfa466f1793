"""The trainer on the files that people have and on a network that does not fit: from the loader to the saved LoRA, by
the nodes themselves."""

from __future__ import annotations

import comfy.sample
import nodes
import pytest
import torch
from comfy_extras.nodes_lora_debug import LoraLoaderBypass
from families import family_checkpoint, load_checkpoint
from quantised_models import STORED, quantise
from safetensors.torch import load_file, save_file
from streamed_models import lend, on_another_device
from trainer_rig import equal, subjects, train, use_store

from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.memory_plan import STREAMED
from comfyui_personalize.nodes.bridge.model.hashes import model_hash
from comfyui_personalize.nodes.bridge.training import memory
from comfyui_personalize.nodes.bridge.training.checks import check
from comfyui_personalize.nodes.bridge.training.request import Request
from comfyui_personalize.nodes.save_personalization import SavePersonalization

pytestmark = pytest.mark.usefixtures("inference_mode")
OPTIONS = TrainingOptions(save_every=0)
RATE = 0.03


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    return use_store(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A checkpoint of the small Flux, its blocks in scaled fp8."""
    path = tmp_path_factory.mktemp("files") / "flux_fp8.safetensors"
    save_file(quantise(load_file(family_checkpoint("flux")), STORED["scaled fp8"])[0], path)
    return path


@pytest.fixture(scope="module")
def scaled(file):
    return load_checkpoint(file)


def learn(models, steps, **changes):
    return train(models, steps=steps, learning_rate=RATE, **{"options": OPTIONS} | changes)


def drawn(model, clip):
    """Latents of two Euler steps, as stock nodes sample them."""
    cond = clip.encode_from_tokens_scheduled(clip.tokenize("a sks dog"), show_pbar=False)
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(5))
    return comfy.sample.sample(model, noise, 2, 1.0, "euler", "simple", cond, cond, torch.zeros_like(noise), seed=5,
                               disable_pbar=True)


def test_a_lora_of_a_scaled_file_is_learned_saved_and_loaded_by_stock_nodes_on_that_file(scaled):
    before, digest = drawn(*scaled[:2]), model_hash(scaled[0])
    trained = learn(scaled, 3)
    SavePersonalization.execute(trained[5], "dog")
    own, beside, merged = (drawn(*models) - before for models in (
        trained[:2], LoraLoaderBypass().load_lora(*scaled[:2], "dog.safetensors", 1.0, 1.0),
        nodes.LoraLoader().load_lora(*scaled[:2], "dog.safetensors", 1.0, 1.0)))
    assert own.abs().max() > 0.01 * before.abs().max()
    assert torch.equal(own, beside)
    assert torch.cosine_similarity(own.flatten(), merged.flatten(), dim=0) > 0.99  # into 8 bits, rounded
    assert torch.equal(drawn(*scaled[:2]), before) and model_hash(scaled[0]) == digest
    assert "memory: no gradient checkpointing, " in trained[6]
    assert "weights: 8 MB as they are stored, 2 MB of them in 8 bits or packed" in trained[6]


@pytest.mark.full
def test_a_run_on_a_scaled_file_goes_on_exactly(scaled, tmp_path, monkeypatch):
    learn(scaled, 1)
    parts = learn(scaled, 2)
    use_store(tmp_path / "whole", monkeypatch)
    whole = learn(scaled, 2)
    assert equal(parts[2], whole[2]) and parts[3] == whole[3]
    assert "resumed from step 1" in parts[6] and "resumed" not in whole[6]


def least_room(models):
    """Bytes in which only the streamed network fits."""
    config = TrainingConfig(steps=2, resolution=64, learning_rate=RATE, seed=1, options=OPTIONS)
    plan = check(Request(model=models[0], clip=models[1], vae=models[2], subjects=subjects(), config=config,
                         run_name="test"))
    ways = memory.plans(memory.needs_of(plan), "auto")
    assert [way.name for way in ways][-1] == STREAMED and ways[-1].spared < ways[-2].spared
    return ways[-1].spared


def test_a_network_that_does_not_fit_is_streamed_and_learns_the_same_lora(file, scaled, tmp_path, monkeypatch):
    whole = learn(scaled, 2)
    use_store(tmp_path / "streamed", monkeypatch)
    models, lent = load_checkpoint(file), lend(monkeypatch)
    on_another_device(models[0], lent)
    monkeypatch.setattr(memory, "SHARED", ())  # as on a card, whose memory is its own
    fits = least_room(models)
    monkeypatch.setattr(memory, "room", lambda _: fits)
    learn(models, 1)
    streamed = learn(models, 2)
    assert models[0].model.model_lowvram and len(lent.casts) > 50 and not lent.alive()
    assert equal(streamed[2], whole[2]) and streamed[3] == whole[3]
    assert "memory: gradient checkpointing, the model streamed, " in streamed[6]
    assert "resumed from step 1" in streamed[6]
