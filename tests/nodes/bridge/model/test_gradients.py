"""Gradients flow through a loaded MODEL, and making them flow copies no bit wrong."""

from __future__ import annotations

import comfy.quant_ops
import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.model.denoiser import (
    ComfyDenoiser,
)
from comfyui_personalize.nodes.bridge.model.gradients import (
    casting_layers,
    differentiable_kernels,
    normal_tensor,
    replace_inference_tensors,
    static_clip,
    static_patcher,
    trainable,
)
from comfyui_personalize.nodes.bridge.text.encoder import encode

pytestmark = pytest.mark.usefixtures("inference_mode")


def test_gradients_reach_an_adapter_while_trainable(models):
    with trainable(models[0]):
        denoiser = ComfyDenoiser(models[0], 64)
        row = encode(models[1], "a sks dog")
        noisy = torch.randn(1, 4, 8, 8, requires_grad=True)
        denoiser(noisy, torch.tensor([500]), [row]).square().mean().backward()
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
                (1e-7 * ComfyDenoiser(models[0], 64)(noisy, torch.tensor([500]), [row]).square().mean()).backward()
            gradients.append(noisy.grad)
    assert torch.allclose(*gradients, rtol=0.1, atol=float(gradients[0].abs().max()) / 50)
    assert not any(vars(layer).get("comfy_cast_weights") for layer in network.modules())


def test_gradients_reach_the_input_of_layers_that_were_moved_to_a_card_outside_of_inference_mode():
    """Their parameters say that they are normal tensors, and are not."""
    layer = torch.nn.Linear(3, 3)
    layer.requires_grad_(False)
    with torch.inference_mode(False), torch.enable_grad():
        layer.to("cpu:0")
        assert not layer.weight.is_inference()
        replace_inference_tensors(layer)
        given = torch.ones(1, 3, requires_grad=True)
        layer(given).sum().backward()
    assert torch.equal(given.grad[0], layer.weight.sum(0))


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


def test_fused_rotary_kernels_are_replaced_by_plain_ones_while_training():
    kernels = comfy.quant_ops.ck
    fused = kernels.rms_rope_split_half
    with torch.inference_mode(False), pytest.raises(ZeroDivisionError), differentiable_kernels():
        scale, angles = torch.ones(8), torch.randn(1, 1, 3, 4, 2, 2)
        query = torch.randn(1, 2, 3, 8, requires_grad=True)
        turned, _ = kernels.rms_rope_split_half(query, query, angles, scale, scale, 1e-6)
        turned.square().sum().backward()
        raise ZeroDivisionError
    assert float(query.grad.abs().sum()) > 0 and kernels.rms_rope_split_half is fused


def test_a_weight_that_was_moved_in_inference_mode_is_made_normal_again():
    with torch.inference_mode(False), torch.enable_grad():
        layer = torch.nn.Linear(2, 2)
        with torch.inference_mode():
            layer.weight.data = layer.weight.data.clone()  # as a module that goes to a card
        kept = layer.weight.data_ptr()
        replace_inference_tensors(layer)
        assert layer.weight.data_ptr() == kept
        layer(torch.ones(1, 2, requires_grad=True)).sum().backward()
