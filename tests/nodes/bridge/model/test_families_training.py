"""Personalize Trainer on every family: the loss falls on fixed noise, stock nodes show the result, storage is free."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import comfy.samplers
import comfy.sd
import comfy.utils
import pytest
import torch
from comfy import supported_models
from comfy.model_base import ModelType
from families import FAMILIES, JOINT, each, family_models
from test_families_network import assert_close, sampled_once
from torch import Tensor
from trainer_rig import photos, subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.objectives import MaskedLoss, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.model.families import FAMILIES as VERIFIED
from comfyui_personalize.nodes.bridge.model.families import family_of, family_warnings, trained_at
from comfyui_personalize.nodes.bridge.photos.latents import square_pixels
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
FEED_FORWARD = TrainingOptions(adapter=AdapterConfig(rank=8, alpha=8.0, targets="attention_and_feed_forward"))


@pytest.fixture(scope="module")
def models():
    """MODEL, CLIP and VAE of a family, loaded once."""
    return functools.cache(family_models)


def error_on_fixed_noise(model: Any, clip: Any, latent: Tensor) -> float:
    """Mean squared error of stock one-step predictions at fixed noise and levels."""
    count = len(model.get_model_object("model_sampling").sigmas)
    errors = [(sampled_once(model, clip, "a sks dog", latent, seed, int(count * level)) - latent).square().mean()
              for seed, level in enumerate((0.3, 0.5, 0.7, 0.3, 0.5, 0.7))]
    return float(torch.stack(errors).mean())


def latent_of(vae: Any) -> Tensor:
    return vae.encode(square_pixels(photos(1)[0].pixels, 64)[None])


@pytest.mark.parametrize("name", each("sd15", "flux"))
def test_the_loss_falls_on_fixed_noise_and_the_file_gives_the_same_in_stock_lora_loader(models, name, store):
    model, clip, vae = models(name)
    latent = latent_of(vae)
    before = error_on_fixed_noise(model, clip, latent)
    trained, _, lora, *_ = train((model, clip, vae), steps=25, learning_rate=1e-2, options=FEED_FORWARD,
                                 subject=subjects(photos=photos(1)))
    after = error_on_fixed_noise(trained, clip, latent)
    assert after < 0.9 * before
    (file,) = store.rglob("adapter-*.safetensors")
    loaded = comfy.sd.load_lora_for_models(model, clip, comfy.utils.load_torch_file(str(file)), 1.0, 1.0)[0]
    assert len(loaded.patches) == len(lora) / 3
    assert_close(sampled_once(loaded, clip, "a sks dog", latent, 1, 400),
                 sampled_once(trained, clip, "a sks dog", latent, 1, 400), 1e-6)


@pytest.mark.parametrize("name", ["sd15", *JOINT])
def test_masks_class_images_and_the_object_term_work_at_any_number_of_channels(models, name):
    model, clip, vae = models(name)
    pool = ClassImages(class_noun="dog", prompt="a dog", key="pool", size=64,
                       latents=torch.randn(2, FAMILIES[name].channels, 8, 8))
    chain = ObjectiveChain(objectives=(PriorPreservation(), MaskedLoss(), ObjectSpecificLoss()), class_images=(pool,))
    losses = train((model, clip, vae), objective=chain, subject=subjects(photos=photos(2, masked=True)), steps=2)[3]
    assert all(0 < loss < float("inf") for loss in losses["loss"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", ["sd15", pytest.param("sd3", marks=pytest.mark.full), "flux"])
def test_networks_stored_in_half_or_less_train(name, dtype):
    models = family_models(name, dtype=dtype)
    assert models[0].model.get_dtype() == dtype
    losses = train(models, steps=3, subject=subjects(photos=photos(1)))[3]["loss"]
    assert all(0 < loss < float("inf") for loss in losses)


@pytest.mark.parametrize("name", JOINT)
def test_cross_attention_alone_is_refused_where_attention_is_joint(models, name):
    options = TrainingOptions(adapter=AdapterConfig(targets="cross_attention_kv"))
    with pytest.raises(InputError, match="targets: got cross_attention_kv.*attend jointly"):
        train(models(name), options=options)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_known_and_others_are_warned_about(models, name, monkeypatch):
    model = models(name)[0]
    assert family_of(model) in VERIFIED and family_warnings(model) == []
    assert family_of(model).has_cross_attention == FAMILIES[name].has_cross_attention

    class AnotherModel(type(model.model)):
        pass

    monkeypatch.setattr(model.model, "__class__", AnotherModel)
    assert "no test trains models of the kind AnotherModel" in family_warnings(model)[0]


@pytest.mark.parametrize(("name", "stock", "known"), [
    ("sd15", supported_models.SD15, (512, 512)), ("sd21", supported_models.SD20, (768, 768)),
    ("sdxl", supported_models.SDXL, (1024, 1024)), ("sd3", supported_models.SD3, (1024, 1024)),
    ("flux", supported_models.Flux, (512, 1024))])
def test_the_resolution_it_was_trained_at_is_known_by_its_true_widths(models, name, stock, known, monkeypatch):
    model = models(name)[0]
    config = SimpleNamespace(unet_config=stock.unet_config)
    monkeypatch.setattr(model.model, "model_config", config)
    assert trained_at(model) == known
    if name == "sd21":
        monkeypatch.setattr(model.model, "model_type", ModelType.EPS)
        assert trained_at(model) == (512, 512)
    if name.startswith("sd") and name != "sd3":
        config.unet_config = config.unet_config | {"model_channels": 64}
        assert trained_at(model) is None
