"""LoRA goes in and out of a network without a trace."""

import math
import re
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from tiny_unet import CONTEXT, TinyDenoiser, TinyTextEncoder, same_bits, tiny_unet

from comfyui_personalize.core.data.examples import generator_for
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import TARGETS, Adapter, AdapterConfig, make_adapters

CONFIG = AdapterConfig(rank=4, alpha=8)


def modules_of(unet):
    return {path: id(module) for path, module in unet.named_modules()}


def snapshot(unet):
    flags = {name: parameter.requires_grad for name, parameter in unet.named_parameters()}
    return (
        modules_of(unet),
        flags,
        list(vars(unet)),
        {name: id(value) for name, value in unet.named_parameters()},
    )


def predict(unet):
    generator = torch.Generator().manual_seed(0)
    noisy, context = (
        torch.randn(1, 4, 8, 8, generator=generator),
        torch.randn(1, 7, CONTEXT, generator=generator),
    )
    with torch.no_grad():
        return unet(noisy, torch.tensor([500]), context).sample


def make(owners, config):
    return make_adapters(owners, dict.fromkeys(owners, config), 0)


def randomise(adapter):
    generator = torch.Generator().manual_seed(1)
    adapter.load_state_dict({key: 0.1 * torch.randn(value.shape, generator=generator)
                             for key, value in adapter.state_dict().items()})


def test_a_new_adapter_changes_no_bit_of_the_output():
    unet = tiny_unet()
    plain = predict(unet)
    with Adapter(unet, CONFIG, seed=0):
        assert torch.equal(predict(unet), plain)


def test_eject_restores_the_very_same_modules_and_flags():
    unet = tiny_unet()
    before = snapshot(unet)
    adapter = Adapter(unet, CONFIG, seed=0)
    assert [name for name, value in unet.named_parameters() if value.requires_grad] and snapshot(
        unet
    ) != before
    assert all("lora" in name for name, value in unet.named_parameters() if value.requires_grad)
    adapter.eject()
    assert snapshot(unet) == before


def test_inject_puts_the_very_same_adapter_back():
    unet = tiny_unet()
    adapter = Adapter(unet, CONFIG, seed=0)
    randomise(adapter)
    inside, adapted = snapshot(unet), predict(unet)
    adapter.eject()
    assert not torch.equal(predict(unet), adapted)
    adapter.inject()
    assert snapshot(unet) == inside and torch.equal(predict(unet), adapted)
    adapter.inject()
    assert snapshot(unet) == inside


def test_nothing_is_left_behind_when_injection_fails(monkeypatch):
    unet = tiny_unet()
    before = snapshot(unet)
    monkeypatch.setattr("comfyui_personalize.core.learning.adapter.adapter.initialise", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Adapter(unet, CONFIG, seed=0)
    assert snapshot(unet) == before


def test_no_adapter_is_left_when_the_second_one_fails():
    denoiser, text_encoder = TinyDenoiser(), TinyTextEncoder()
    before = snapshot(denoiser.module)
    with pytest.raises(InputError, match="rank: got 20, expected at most 16, the smaller side of layer"):
        make({"text": text_encoder, "unet": denoiser}, AdapterConfig(rank=20))
    with pytest.raises(InputError, match="matches no linear layer of ModuleDict"):
        make({"unet": denoiser, "text": text_encoder}, AdapterConfig(rank=4, targets=r".*attn2\.to_k"))
    assert snapshot(denoiser.module) == before


def test_a_layer_without_a_name_in_adapter_files_is_refused():
    denoiser = TinyDenoiser()
    denoiser.adapter_keys = {}
    with pytest.raises(InputError, match="no name in adapter files"):
        make({"unet": denoiser}, CONFIG)


def test_the_seed_decides_the_start_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first = Adapter(tiny_unet(), CONFIG, seed=3).state_dict()
    torch.manual_seed(99)
    again = Adapter(tiny_unet(), CONFIG, seed=3).state_dict()
    assert same_bits(first, again)
    assert not same_bits(first, Adapter(tiny_unet(), CONFIG, seed=4).state_dict())
    torch.set_rng_state(state)
    Adapter(tiny_unet(), CONFIG, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not value.any() for key, value in first.items() if "lora_B" in key)


def test_every_layer_starts_from_a_stream_of_the_seed_and_its_own_path():
    """A layer's start is the same whichever other layers learn, and no two layers of one shape start alike."""
    adapter = Adapter(tiny_unet(), CONFIG, seed=3)
    starts = {path: adapter.state_dict()[f"{path}.lora_A.weight"] for path in adapter.paths}
    for path, start in starts.items():
        drawn = torch.empty(start.shape)
        torch.nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator_for(3, f"adapter/{path}", 0))
        assert torch.equal(start, drawn)
    twins = [(first, second) for first, second in combinations(starts, 2)
             if starts[first].shape == starts[second].shape]
    assert twins and not any(torch.equal(starts[first], starts[second]) for first, second in twins)
    alone = Adapter(tiny_unet(), replace(CONFIG, targets=re.escape(next(reversed(starts)))), seed=3).state_dict()
    assert torch.equal(next(iter(alone.values())), next(reversed(starts.values())))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adapters_of_a_half_precision_network_are_float32(dtype):
    adapter = Adapter(tiny_unet().to(dtype), CONFIG, seed=0)
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_export_is_the_update_alpha_over_rank_times_up_down(kind):
    """Programs divide alpha by the rank, also where the update is alpha / sqrt(rank): its alpha is that much larger."""
    unet = tiny_unet()
    adapter = Adapter(unet, replace(CONFIG, kind=kind), seed=0)
    randomise(adapter)
    adapted = predict(unet)
    adapter.eject()
    tensors = adapter.export({path: path for path in adapter.paths})
    scale = CONFIG.alpha / (CONFIG.rank if kind == "lora" else math.sqrt(CONFIG.rank))
    for path in adapter.paths:
        assert float(tensors[f"{path}.alpha"]) / CONFIG.rank == pytest.approx(scale)
        update = tensors[f"{path}.lora_up.weight"] @ tensors[f"{path}.lora_down.weight"]
        unet.get_submodule(path).weight.data += tensors[f"{path}.alpha"] / CONFIG.rank * update
    torch.testing.assert_close(predict(unet), adapted, atol=1e-5, rtol=1e-5)


def test_diffusers_reads_the_exported_file():
    denoiser = TinyDenoiser()
    adapter = Adapter(denoiser.module, CONFIG, seed=0)
    randomise(adapter)
    adapted = predict(denoiser.module)
    adapter.eject()
    tensors, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(adapter.export(denoiser.adapter_keys))
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(tensors, alphas, denoiser.module)
    torch.testing.assert_close(predict(denoiser.module), adapted, atol=1e-5, rtol=1e-5)


def test_rank_above_a_layer_names_the_layer():
    with pytest.raises(InputError, match=r"rank: got 17, expected at most 16, .*attn2\.to_k"):
        Adapter(tiny_unet(), AdapterConfig(rank=17), seed=0)


def test_tensors_of_another_rank_are_refused():
    other = Adapter(tiny_unet(), AdapterConfig(rank=2), seed=0).state_dict()
    with pytest.raises(InputError, match="tensors of other layers or ranks"):
        Adapter(tiny_unet(), CONFIG, seed=0).load_state_dict(other)


@pytest.mark.parametrize(("fields", "message"), [
    ({"rank": 0}, "rank: got 0"), ({"alpha": 0}, "alpha: got 0"), 
    ({"kind": "ia3"}, "adapter kind: got 'ia3', expected one of lora, rslora"),
    ({"targets": "("}, "cannot be read"),
])
def test_config_refuses(fields, message):
    with pytest.raises(InputError, match=message):
        AdapterConfig(**fields)


@pytest.mark.parametrize(("preset", "path", "matches"), [
    ("attention", "input_blocks.1.1.transformer_blocks.0.attn1.to_q", True),
    ("attention", "input_blocks.1.1.transformer_blocks.0.attn2.to_out.0", True),
    ("attention", "input_blocks.1.1.transformer_blocks.0.ff.net.2", False),
    ("attention", "clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj", True),
    ("attention", "transformer.encoder.block.3.layer.0.SelfAttention.q", True),
    ("attention", "joint_blocks.0.context_block.attn.qkv", True),
    ("attention", "double_blocks.0.img_attn.proj", True),
    ("attention", "single_blocks.4.linear1", True),
    ("attention", "transformer_blocks.0.attn.add_k_proj", True),
    ("attention", "double_blocks.0.img_mlp.0", False),
    ("attention", "layers.0.attention.qkv", True),
    ("attention", "visual_transformer_blocks.0.self_attention.to_query", True),
    ("attention", "double_layers.0.attn.w1q", True),
    ("attention", "single_transformer_blocks.0.attn.norm_q", False),
    ("attention", "joint_blocks.0.x_block.attn2.ln_q", False),
    ("attention", "blocks.0.adaln_modulation_self_attn.1", False),
    ("attention", "pixel_blocks.0.compress_to_attn", False),
    ("cross_attention_kv", "middle_block.1.transformer_blocks.0.attn2.to_v", True),
    ("cross_attention_kv", "middle_block.1.transformer_blocks.0.attn2.to_q", False),
    ("cross_attention_kv", "middle_block.1.transformer_blocks.0.attn1.to_v", False),
    ("attention_and_feed_forward", "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj", True),
    ("attention_and_feed_forward", "text_model.encoder.layers.0.mlp.fc1", True),
    ("attention_and_feed_forward", "double_blocks.0.txt_mlp.2", True),
    ("attention_and_feed_forward", "layers.0.feed_forward.w1", True),
    ("attention_and_feed_forward", "double_stream_blocks.0.block.ff_i.experts.3.w2", True),
    ("attention_and_feed_forward", "transformer_blocks.0.img_mlp.net.0.proj", True),
    ("attention_and_feed_forward", "patch_blocks.0.mlp_x.w1", True),
    ("attention_and_feed_forward", "blocks.0.adaln_modulation_mlp.1", False),
    ("attention_and_feed_forward", "t_embedder.mlp.0", False),
    ("attention_and_feed_forward", "time_embed.0", False),
])
def test_preset_names_layers_of_every_family(preset, path, matches):
    assert bool(re.fullmatch(TARGETS[preset], path)) is matches
