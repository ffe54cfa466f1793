"""The denoiser equals ComfyUI's own forward, under the names that stock loaders know."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_management
import comfy.model_sampling
import comfy.sd
import comfy.utils
import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.model.conditions import conditions_of
from comfyui_personalize.nodes.bridge.model.denoiser import (
    ComfyDenoiser,
    check_model,
    is_quantised,
    schedule_of,
    unet_adapter_keys,
)
from comfyui_personalize.nodes.bridge.text.encoder import encode

pytestmark = pytest.mark.usefixtures("inference_mode")


def patched_sampling(model, *bases, **settings):
    class Sampling(*bases):
        pass

    clone = model.clone()
    clone.add_object_patch("model_sampling", Sampling(model.model.model_config, **settings))
    return clone


class CosmosFlow(comfy.model_sampling.ModelSamplingCosmosRFlow):
    pass


class PixelFlow(comfy.model_sampling.ModelSamplingDiscreteFlow):
    """A flow with noise of another size and a shift, as HiDream-O1's."""

    def __init__(self, model_config=None):
        super().__init__(model_config)
        self.set_noise_scale(8.0)
        self.set_parameters(shift=3.0)


class HalfEDM(comfy.model_sampling.ModelSamplingContinuousEDM):
    """As Playground 2.5 has it."""

    def __init__(self, model_config=None):
        super().__init__(model_config)
        self.set_parameters(0.002, 80.0, 0.5)


@pytest.mark.parametrize("bases", [
    (comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS),
    (comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION),
    (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST),
    (PixelFlow, comfy.model_sampling.CONST), (HalfEDM, comfy.model_sampling.EDM), (HalfEDM, comfy.model_sampling.EPS),
    (HalfEDM, comfy.model_sampling.V_PREDICTION), (CosmosFlow, comfy.model_sampling.COSMOS_RFLOW),
    (comfy.model_sampling.StableCascadeSampling, comfy.model_sampling.EPS),
])
def test_the_prediction_means_what_comfyui_takes_it_for(models, bases):
    """Noisy latents are ComfyUI's own, and x0 by the schedule's algebra is that of its `apply_model`."""
    model = patched_sampling(models[0], *bases)
    comfy.model_management.load_models_gpu([model])
    denoiser, row = ComfyDenoiser(model, 64), encode(models[1], "a sks dog")
    schedule, index = denoiser.schedule, torch.tensor([300])
    latents, noise = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    noisy = schedule.add_noise(latents, noise, index)
    raw = denoiser(noisy, index, [row])
    alpha, sigma, std = schedule.alphas[300], schedule.sigmas[300], schedule.data_std
    x0 = {"epsilon": std * (noisy - sigma * raw) / alpha, "v_prediction": std * (alpha * noisy - sigma * raw),
          "flow": noisy - sigma * raw}[schedule.prediction]
    sampling = model.get_model_object("model_sampling")
    level = sigma if comfy.model_sampling.CONST in bases else std * sigma / alpha
    theirs = sampling.noise_scaling(level[None], noise.clone(), latents)
    assert torch.allclose(sampling.calculate_input(level[None], theirs), noisy, atol=1e-5)
    expected = model.model.apply_model(theirs, level[None], c_crossattn=row.context)
    assert torch.allclose(x0, expected, atol=1e-4 * float(expected.abs().max()))
    model.unpatch_model()
    comfy.model_management.unload_all_models()


def test_cosmos_is_trained_at_evenly_spread_times():
    sampling = CosmosFlow()
    schedule = schedule_of(SimpleNamespace(get_model_object=lambda name: type(
        "Sampling", (CosmosFlow, comfy.model_sampling.COSMOS_RFLOW), {})()))
    low, high = (sampling.timestep(level) for level in (sampling.sigma_min, sampling.sigma_max))
    assert schedule.prediction == "flow" and torch.equal(schedule.alphas, 1 - schedule.sigmas)
    assert torch.allclose(schedule.sigmas, torch.linspace(float(low), float(high), 1000))
    assert torch.allclose(schedule.timesteps, schedule.sigmas, atol=1e-6)


def test_the_schedule_is_the_loaded_models_own(models):
    schedule = schedule_of(models[0])
    sigmas = models[0].model.model_sampling.sigmas
    assert schedule.prediction == "epsilon" and len(schedule) == 1000
    assert torch.allclose(schedule.sigmas / schedule.alphas, sigmas, rtol=1e-5)
    assert torch.equal(schedule.timesteps, torch.arange(1000.0))


def test_other_forward_processes_are_refused(models):
    model = patched_sampling(models[0], comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.X0)
    with pytest.raises(InputError, match="model: got a model with ModelSamplingDiscrete / X0 sampling"):
        check_model(model)


def test_models_that_need_a_picture_are_refused(models, monkeypatch):
    monkeypatch.setattr(models[0].model, "concat_cond", lambda **given: torch.zeros_like(given["noise"]))
    with pytest.raises(InputError, match="model: got a model that reads a picture beside the noise"):
        check_model(models[0])


def test_inpainting_models_train_with_a_full_mask(models):
    """Where the channels beside the noise go by a mask, those of no mask are a full one."""
    base = models[0].model
    base.set_inpaint()
    try:
        check_model(models[0])
        row, noisy = encode(models[1], "a sks dog"), torch.ones(1, 4, 8, 8)
        channels = conditions_of(base, row, noisy, (64, 64))["c_concat"].cond
        assert torch.equal(channels, torch.cat([torch.ones(1, 1, 8, 8), base.blank_inpaint_image_like(noisy)], dim=1))
    finally:
        base.concat_keys = ()


def test_rows_of_a_batch_equal_single_rows(models):
    comfy.model_management.load_models_gpu([models[0]])
    denoiser = ComfyDenoiser(models[0], 64)
    rows = [encode(models[1], text) for text in ("a sks dog", "a dog")]
    noisy, index = torch.randn(2, 4, 8, 8), torch.tensor([10, 800])
    both = denoiser(noisy, index, rows)
    single = [denoiser(noisy[i:i + 1], index[i:i + 1], [row]) for i, row in enumerate(rows)]
    assert torch.allclose(both, torch.cat(single), atol=1e-4)


def test_unet_keys_are_what_stock_loraloader_maps_to_the_same_layer(models):
    model = models[0].model
    theirs = comfy.lora.model_lora_keys_unet(model, {})
    for path, stem in unet_adapter_keys(models[0]).items():
        if isinstance(model.diffusion_model.get_submodule(path), torch.nn.Linear):
            assert theirs[stem] == f"diffusion_model.{path}.weight", path
            assert stem.startswith("lora_unet_")


def test_fp8_weights_are_noticed(models):
    assert not is_quantised(models[0])
    small = torch.nn.Linear(2, 2).to(torch.float8_e4m3fn)
    assert is_quantised(SimpleNamespace(model=SimpleNamespace(diffusion_model=small)))
