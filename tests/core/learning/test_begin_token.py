"""Keys and values of the begin token: the same values, and no gradient through them."""

import pytest
import torch
from tiny_unet import (
    CONTEXT,
    TinyDenoiser,
    TinyTextEncoder,
    same_bits,
    tiny_unet,
    trainer,
    training_config,
)
from torch import nn

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig, BeginTokenDetached, make_adapters
from comfyui_personalize.core.store.runs import run_key
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions

KV = AdapterConfig(kind="full", targets="cross_attention_kv")


@pytest.fixture
def unet():
    return tiny_unet()


@pytest.fixture
def context():
    return torch.randn(2, 7, CONTEXT, generator=torch.Generator().manual_seed(0)).requires_grad_()


def predict(unet, context):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return unet(latents, 500, context).sample


def detached(module):
    part = BeginTokenDetached(module)
    part.inject()
    return part


def gradients(unet, context):
    """Of context and of every cross-attention key and value weight."""
    weights = [weight for name, weight in unet.named_parameters() if "attn2.to_k" in name or "attn2.to_v" in name]
    return torch.autograd.grad(predict(unet, context).square().mean(), [context, *weights])


def test_the_prediction_is_the_same_to_the_bit(unet, context):
    before = predict(unet, context)
    detached(unet)
    assert torch.equal(predict(unet, context), before)


def test_the_begin_tokens_row_of_the_context_gets_no_gradient_and_the_others_keep_theirs(unet, context):
    """K and V are linear in the context, so cutting row 0 leaves the gradient of the other rows as it is."""
    whole = gradients(unet, context)[0]
    detached(unet)
    cut = gradients(unet, context)[0]
    assert whole[:, 0].abs().sum() > 0 and cut[:, 0].abs().sum() == 0
    assert torch.allclose(cut[:, 1:], whole[:, 1:], atol=1e-9)


def test_a_weights_gradient_is_that_of_the_other_tokens():
    """dL/dW = sum over tokens of (dL/dk) c^T, without token 0."""
    net = nn.ModuleDict({"attn2": nn.ModuleDict({"to_k": nn.Linear(CONTEXT, 8, bias=False)})})
    context, upstream = torch.randn(2, 7, CONTEXT), torch.randn(2, 7, 8)
    detached(net)
    (net["attn2"]["to_k"](context) * upstream).sum().backward()
    expected = torch.einsum("btd,btc->dc", upstream[:, 1:], context[:, 1:])
    assert torch.allclose(net["attn2"]["to_k"].weight.grad, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_it_goes_around_adapters_too(kind):
    denoiser = TinyDenoiser()
    config = AdapterConfig(kind=kind, rank=2, alpha=2.0, targets="cross_attention_kv")
    part = make_adapters({"denoiser": denoiser}, {"denoiser": config}, seed=0)["denoiser"]
    context = torch.randn(1, 1, CONTEXT)  # nothing but a begin token: nothing is left to learn
    hooks = detached(denoiser.module)
    loss = denoiser.module(torch.randn(1, 4, 8, 8), 500, context).sample.sum()
    found = torch.autograd.grad(loss, part.parameters(), allow_unused=True) if loss.requires_grad else []
    assert all(gradient is None or not gradient.any() for gradient in found)
    hooks.eject()
    loss = denoiser.module(torch.randn(1, 4, 8, 8), 500, context).sample.sum()
    assert any(gradient.any() for gradient in torch.autograd.grad(loss, part.parameters()))


def test_taken_out_nothing_of_it_is_left_and_twice_in_is_once_in(unet):
    part = detached(unet)
    part.inject()
    hooked = [module for module in unet.modules() if module._forward_hooks]
    assert hooked and all(len(module._forward_hooks) == 1 for module in hooked)
    part.eject()
    assert not any(module._forward_hooks for module in unet.modules())


def test_a_network_without_cross_attention_is_refused():
    with pytest.raises(InputError, match="detach_begin_token: got Linear, which has no cross-attention"):
        BeginTokenDetached(nn.Linear(2, 2))


def run_of(**options) -> TrainingConfig:
    return training_config(steps=2, **{"text_encoder_rate": 0.0} | options)


def finished(config, denoiser=None):
    with trainer(config, denoiser=denoiser) as run:
        list(run.steps())
        return run.export().adapter, run.state()[0]


def test_a_run_with_it_learns_something_else_and_leaves_the_network_clean():
    denoiser = TinyDenoiser()
    with_it = finished(run_of(detach_begin_token=True), denoiser)[0]
    assert not same_bits(with_it, finished(run_of())[0])
    assert not any(module._forward_hooks for module in denoiser.module.modules())


def test_a_resumed_run_with_it_has_the_same_bits():
    whole = finished(training_config(steps=4, detach_begin_token=True))[1]
    with trainer(training_config(steps=2, detach_begin_token=True)) as run:
        list(run.steps())
        saved = run.state()
    with trainer(training_config(steps=4, detach_begin_token=True)) as run:
        run.load_state(*saved)
        list(run.steps())
        assert same_bits(run.state()[0], whole)


def test_a_network_that_cannot_have_it_is_left_as_it_was():
    class Joint(TinyDenoiser):
        def __init__(self):
            super().__init__()
            self.module = TinyTextEncoder().module
            self.adapter_keys = {path: path for path, _ in self.module.named_modules()}

    denoiser = Joint()
    before = [type(module) for module in denoiser.module.modules()]
    with pytest.raises(InputError, match="no cross-attention"), trainer(run_of(detach_begin_token=True),
                                                                        denoiser=denoiser):
        pass
    assert [type(module) for module in denoiser.module.modules()] == before


def test_a_run_without_it_keeps_the_key_from_before_it_and_a_saved_config_its_meaning():
    """The key as the version before made it."""
    config = TrainingConfig(steps=9, options=TrainingOptions(adapter=KV))
    assert run_key(config.key_fields()) == "a9c5bedac6387716d1baa34ce6a2b3fc5712d74f9be39b2751c392947e20f70a"
    saved = config.to_dict()
    del saved["options"]["detach_begin_token"]
    assert TrainingConfig.from_dict(saved) == config
    other = TrainingConfig(steps=9, options=TrainingOptions(adapter=KV, detach_begin_token=True))
    assert run_key(other.key_fields()) != run_key(config.key_fields())
