"""The denoiser equals ComfyUI's own forward, and making a MODEL trainable copies no bit wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.sd
import comfy.utils
import pytest
import torch
from comfy.patcher_extension import PatcherInjection
from tiny_model import tiny_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.nodes.bridge.model.denoiser import (
    ComfyDenoiser,
    casting_layers,
    check_model,
    is_quantised,
    normal_tensor,
    replace_inference_tensors,
    schedule_of,
    static_clip,
    static_patcher,
    trainable,
    unet_adapter_keys,
)
from comfyui_personalize.nodes.bridge.model.hashes import model_hash, tensor_digest
from comfyui_personalize.nodes.bridge.text.encoder import encode

pytestmark = pytest.mark.usefixtures("inference_mode")


@pytest.fixture(scope="module")
def models():
    return tiny_models()


def patched_sampling(model, *bases, **settings):
    class Sampling(*bases):
        pass

    clone = model.clone()
    clone.add_object_patch("model_sampling", Sampling(model.model.model_config, **settings))
    return clone


@pytest.mark.parametrize("bases", [
    (comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS),
    (comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION),
    (comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST),
])
def test_the_prediction_means_what_comfyui_takes_it_for(models, bases):
    """x0 from the raw prediction by the schedule's own algebra equals ComfyUI's apply_model."""
    model = patched_sampling(models[0], *bases)
    comfy.model_management.load_models_gpu([model])
    denoiser, row = ComfyDenoiser(model, 64), encode(models[1], "a sks dog")
    schedule, index = denoiser.schedule, torch.tensor([300])
    latents, noise = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    noisy = schedule.add_noise(latents, noise, index)
    raw = denoiser(noisy, index, row)
    alpha, sigma = schedule.alphas[300], schedule.sigmas[300]
    x0 = {"epsilon": (noisy - sigma * raw) / alpha, "v_prediction": alpha * noisy - sigma * raw,
          "flow": noisy - sigma * raw}[schedule.prediction]
    ratio = model.get_model_object("model_sampling").sigmas[300]
    theirs = noisy if schedule.prediction == "flow" else noisy / alpha
    expected = model.model.apply_model(theirs, ratio[None], c_crossattn=row.context)
    assert torch.allclose(x0, expected, atol=1e-4 * float(expected.abs().max()))
    model.unpatch_model()
    comfy.model_management.unload_all_models()


def test_the_schedule_is_the_loaded_models_own(models):
    schedule = schedule_of(models[0])
    sigmas = models[0].model.model_sampling.sigmas
    assert schedule.prediction == "epsilon" and len(schedule) == 1000
    assert torch.allclose(schedule.sigmas / schedule.alphas, sigmas, rtol=1e-5)
    assert torch.equal(schedule.timesteps, torch.arange(1000.0))


def test_other_forward_processes_are_refused(models):
    model = patched_sampling(models[0], comfy.model_sampling.ModelSamplingContinuousEDM, comfy.model_sampling.EDM)
    with pytest.raises(InputError, match="model: got a model with ModelSamplingContinuousEDM / EDM sampling"):
        check_model(model)


def test_inpainting_models_are_refused(models, monkeypatch):
    monkeypatch.setattr(models[0].model, "concat_keys", ("mask",))
    with pytest.raises(InputError, match="an inpainting or edit model"):
        check_model(models[0])


def test_rows_of_a_batch_equal_single_rows(models):
    comfy.model_management.load_models_gpu([models[0]])
    denoiser = ComfyDenoiser(models[0], 64)
    rows = [encode(models[1], text) for text in ("a sks dog", "a dog")]
    noisy, index = torch.randn(2, 4, 8, 8), torch.tensor([10, 800])
    both = denoiser(noisy, index, Conditioning(torch.cat([row.context for row in rows])))
    single = [denoiser(noisy[i:i + 1], index[i:i + 1], row) for i, row in enumerate(rows)]
    assert torch.allclose(both, torch.cat(single), atol=1e-4)


def test_gradients_reach_an_adapter_while_trainable(models):
    with trainable(models[0]):
        denoiser = ComfyDenoiser(models[0], 64)
        row = encode(models[1], "a sks dog")
        noisy = torch.randn(1, 4, 8, 8, requires_grad=True)
        denoiser(noisy, torch.tensor([500]), row).square().mean().backward()
        assert noisy.grad is not None and float(noisy.grad.abs().sum()) > 0
    assert torch.is_inference_mode_enabled()


def test_float16_networks_train_in_float32_with_gradients_that_are_not_rounded_away(models):
    with trainable(models[0]):
        network = models[0].model.diffusion_model
        row = encode(models[1], "a sks dog")
        gradients = []
        for dtype in (torch.float32, torch.float16):
            models[0].model.get_dtype_inference = lambda dtype=dtype: dtype
            network.to(torch.float16 if dtype == torch.float16 else network.dtype)
            noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
            with casting_layers(models[0].model):
                (1e-7 * ComfyDenoiser(models[0], 64)(noisy, torch.tensor([500]), row).square().mean()).backward()
            gradients.append(noisy.grad)
    assert torch.allclose(*gradients, rtol=0.1, atol=float(gradients[0].abs().max()) / 50)
    assert not any(vars(layer).get("comfy_cast_weights") for layer in network.modules())


def test_the_hash_tells_injections_of_one_name_apart(models):
    def injected() -> Any:
        patcher = models[0].clone()
        patcher.set_injections("bypass_lora", [PatcherInjection(inject=print, eject=print)])
        return patcher

    first, second = injected(), injected()
    assert model_hash(first) == model_hash(first.clone()) != model_hash(second) != model_hash(models[0])


def test_replaced_weights_keep_bits_ties_and_buffers():
    tied = torch.nn.Linear(3, 3)
    module = torch.nn.Sequential(tied, torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    module[1].weight = tied.weight
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert all(parameter.is_inference() for parameter in module.parameters())
    with torch.inference_mode(False):
        replace_inference_tensors(module)
    assert not any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers()))
    assert module[0].weight is module[1].weight
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_replaced_weights_stay_in_their_memory_whatever_their_dtype():
    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    module = torch.nn.ParameterList(torch.nn.Parameter(torch.randn(3, 4).to(dtype)) for dtype in dtypes)
    before = [(parameter.data_ptr(), parameter.dtype) for parameter in module]
    with torch.inference_mode(False):
        replace_inference_tensors(module)
    assert [(parameter.data_ptr(), parameter.dtype) for parameter in module] == before
    assert not any(parameter.is_inference() or parameter.requires_grad for parameter in module)


def test_weights_of_their_own_tensor_class_are_copied():
    """Quantised weights: their memory is not what they look like."""
    class Quantised(torch.Tensor):
        pass

    weight = torch.ones(2).as_subclass(Quantised)
    with torch.inference_mode(False):
        copy = normal_tensor(weight)
    assert type(copy) is Quantised and copy.data_ptr() != weight.data_ptr() and not copy.is_inference()


def test_unet_keys_are_what_stock_loraloader_maps_to_the_same_layer(models):
    model = models[0].model
    theirs = comfy.lora.model_lora_keys_unet(model, {})
    for path, stem in unet_adapter_keys(models[0]).items():
        if isinstance(model.diffusion_model.get_submodule(path), torch.nn.Linear):
            assert theirs[stem] == f"diffusion_model.{path}.weight", path
            assert stem.startswith("lora_unet_")


def test_dynamic_vram_models_are_trained_on_a_static_clone():
    class Dynamic:
        def is_dynamic(self):
            return True

        def clone(self, disable_dynamic):
            raise RuntimeError("no loader")

    with pytest.raises(InputError, match="--disable-dynamic-vram"):
        static_patcher(Dynamic())


def test_a_dynamic_clip_is_trained_on_the_clones_own_module():
    class Dynamic:
        def __init__(self, model, dynamic):
            self.model, self.dynamic = model, dynamic

        def is_dynamic(self):
            return self.dynamic

        def clone(self, disable_dynamic):
            return Dynamic("static module", not disable_dynamic)

    class Clip:
        def __init__(self):
            self.patcher, self.cond_stage_model = Dynamic("old module", True), "old module"

        def clone(self):
            return Clip()

    clip = Clip()
    static = static_clip(clip)
    assert static.cond_stage_model == static.patcher.model == "static module"
    assert clip.cond_stage_model == "old module" and static_clip(static) is static


def test_fp8_weights_are_noticed(models):
    assert not is_quantised(models[0])
    small = torch.nn.Linear(2, 2).to(torch.float8_e4m3fn)
    assert is_quantised(SimpleNamespace(model=SimpleNamespace(diffusion_model=small)))


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
