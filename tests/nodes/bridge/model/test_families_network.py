"""Every family's network: predictions are ComfyUI's own, gradients are right, adapters mean the same in stock nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import pytest
import torch
from families import FAMILIES, each, family_models
from torch import Tensor

from comfyui_personalize.core.learning.adapter import Adapter, AdapterConfig
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.core.training.gradient_checkpointing import checkpointed, find_blocks
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.text.encoder import encode

pytestmark = pytest.mark.usefixtures("inference_mode")
SIZE = 64
DIFFERENT = ("sd15", "sdxl", "sd3", "flux")
"""Networks of another structure than those before."""
INDEX = {"epsilon": 400, "v_prediction": 700, "flow": 300}


@pytest.fixture(scope="module")
def models() -> Callable[[str], tuple[Any, Any, Any]]:
    """MODEL, CLIP and VAE of a family, loaded once."""
    return functools.cache(family_models)


def noise(name: str, seed: int, rows: int = 1, side: int = SIZE // 8) -> Tensor:
    shape = rows, FAMILIES[name].channels, side, side
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clean(denoiser: ComfyDenoiser, noisy: Tensor, raw: Tensor, index: int) -> Tensor:
    """z from z_t and the raw prediction, by the schedule's own algebra."""
    alpha, sigma = denoiser.schedule.alphas[index], denoiser.schedule.sigmas[index]
    return {"epsilon": lambda: (noisy - sigma * raw) / alpha, "v_prediction": lambda: alpha * noisy - sigma * raw,
            "flow": lambda: noisy - sigma * raw}[denoiser.schedule.prediction]()


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    difference = float((actual - expected).abs().max() / expected.abs().max())
    assert difference < tolerance, f"differs by {difference:.1e} of the largest value"


def sampled_once(model: Any, clip: Any, text: str, latent: Tensor, seed: int, index: int) -> Tensor:
    """What stock nodes make of a latent in one step from level `index` to clean, at cfg 1."""
    tables = model.get_model_object("model_sampling").sigmas
    cond = clip.encode_from_tokens_scheduled(clip.tokenize(text), show_pbar=False)
    sampler = comfy.samplers.sampler_object("euler")
    return comfy.sample.sample_custom(
        model, noise_like(latent, seed), 1.0, sampler, torch.tensor([float(tables[index]), 0.0]), cond, cond, latent,
        disable_pbar=True, seed=seed)


def noise_like(latent: Tensor, seed: int) -> Tensor:
    return torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))


def denoised_once(model: Any, clip: Any, text: str, latent: Tensor, seed: int, index: int) -> Tensor:
    """The same through what the trainer uses."""
    denoiser = ComfyDenoiser(model, SIZE)
    level = torch.tensor([index])
    noisy = denoiser.schedule.add_noise(model.model.process_latent_in(latent), noise_like(latent, seed), level)
    raw = denoiser(noisy, level, [encode(clip, text)])
    return model.model.process_latent_out(clean(denoiser, noisy, raw, index))


@pytest.mark.parametrize("name", FAMILIES)
def test_one_step_of_stock_sampling_gives_what_the_trainer_predicts(models, name):
    """Text positions, pooled and size conditioning, guidance, timestep, prediction and latent format at once."""
    model, clip, _ = models(name)
    index = INDEX[FAMILIES[name].prediction]
    latent = 0.5 * noise(name, 1)
    for text in ("a sks dog", "a (sks:1.3) dog, " + "very " * 90 + "far away"):
        expected = sampled_once(model, clip, text, latent, 7, index)
        actual = denoised_once(model, clip, text, latent, 7, index)
        assert_close(actual, expected)
    other = denoised_once(model, clip, "a cat", latent, 7, index)
    assert not torch.allclose(other, actual, rtol=1e-3), "the text is not read"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("sd15", "sd21")])
def test_the_pooled_text_is_read(models, name):
    model, clip, _ = models(name)
    comfy.model_management.load_models_gpu([model])
    denoiser, row = ComfyDenoiser(model, SIZE), encode(clip, "a sks dog")
    level, latent = torch.tensor([300]), noise(name, 1)
    other = Conditioning(row.context, 2 * row.pooled)
    assert not torch.allclose(denoiser(latent, level, [other]), denoiser(latent, level, [row]), rtol=1e-3)


def test_sdxl_is_told_the_training_size(models):
    model, clip, _ = models("sdxl")
    comfy.model_management.load_models_gpu([model])
    row, level, latent = encode(clip, "a sks dog"), torch.tensor([300]), noise("sdxl", 1)
    small, large = (ComfyDenoiser(model, size)(latent, level, [row]) for size in (SIZE, 1024))
    assert not torch.allclose(small, large, rtol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_a_batch_equal_single_rows(models, name):
    model, clip, _ = models(name)
    comfy.model_management.load_models_gpu([model])
    denoiser = ComfyDenoiser(model, SIZE)
    rows = [encode(clip, text) for text in ("a sks dog", "a dog")]
    noisy, index = noise(name, 2, rows=2), torch.tensor([10, 800])
    single = [denoiser(noisy[i:i + 1], index[i:i + 1], [row]) for i, row in enumerate(rows)]
    assert_close(denoiser(noisy, index, rows), torch.cat(single))


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("name", each(*DIFFERENT))
def test_gradients_are_the_slopes_of_the_loss(models, name, recomputed):
    """Central differences along the gradient: no in-place operation of the network spoils what autograd keeps."""
    model, clip, _ = models(name)
    with trainable(model):
        denoiser, row = ComfyDenoiser(model, SIZE), encode(clip, "a sks dog")
        blocks = find_blocks(denoiser.module) if recomputed else []
        with adapter_in(denoiser, scale=0.1) as adapter, checkpointed(blocks):
            noisy, target = noise(name, 3, side=16), noise(name, 4, side=16)  # 8: one pixel in the middle, no slope

            def loss() -> Tensor:
                return (denoiser(noisy, torch.tensor([300]), [row]) - target).square().mean()

            loss().backward()
            parameters = adapter.parameters()
            gradients = [parameter.grad.clone() for parameter in parameters]
            assert all(float(gradient.abs().sum()) > 0 for gradient in gradients), "a layer has no gradient"
            norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
            step = 0.02
            values = []
            for sign in (1, -1):
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.data.add_(gradient, alpha=sign * step / float(norm))
                with torch.no_grad():
                    values.append(float(loss()))
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.data.sub_(gradient, alpha=sign * step / float(norm))
    slope = (values[0] - values[1]) / (2 * step)
    assert slope == pytest.approx(float(norm), rel=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_stays_in_the_network_after_training(models, name):
    network = models(name)[0].model.diffusion_model
    with trainable(models(name)[0]):
        assert comfy.model_management.in_training
    assert not comfy.model_management.in_training
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("targets", ["attention", "attention_and_feed_forward"])
@pytest.mark.parametrize("name", each(*DIFFERENT))
def test_stock_lora_loader_reproduces_the_network_with_the_adapter_in(models, name, targets):
    model, clip, _ = models(name)
    latent, index = 0.5 * noise(name, 5), INDEX[FAMILIES[name].prediction]
    base = sampled_once(model, clip, "a sks dog", latent, 7, index)
    with trainable(model):
        with adapter_in(ComfyDenoiser(model, SIZE), targets=targets) as adapter, torch.no_grad():
            mine = denoised_once(model, clip, "a sks dog", latent, 7, index)
        file = adapter.export(ComfyDenoiser(model, SIZE).adapter_keys)
    loaded = comfy.sd.load_lora_for_models(model, None, file, 1.0, 0)[0]
    assert sum(map(len, loaded.patches.values())) == len(adapter.paths)
    assert_close(sampled_once(loaded, clip, "a sks dog", latent, 7, index), mine, 1e-3)
    assert float((mine - base).abs().max() / base.abs().max()) > 0.01, "the adapter changes nothing"


class adapter_in:  # noqa: N801 - used as a context: `with adapter_in(...)`
    """Within the context a random adapter is in the network."""

    def __init__(self, denoiser: ComfyDenoiser, scale: float = 0.3, **config: Any):
        self.adapter = Adapter(denoiser.module, AdapterConfig(**{"rank": 4, "alpha": 4.0} | config), seed=1)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(2)
            for parameter in self.adapter.parameters():
                shape = parameter.shape
                parameter.copy_(scale * torch.randn(shape, generator=generator) / shape[-1] ** 0.5)

    def __enter__(self) -> Adapter:
        return self.adapter

    def __exit__(self, *_: object) -> None:
        self.adapter.eject()


LAYERS = {
    ("sd3", "attention"): {"joint_blocks.0.x_block.attn.qkv", "joint_blocks.0.x_block.attn.proj",
                           "joint_blocks.0.context_block.attn.qkv", "joint_blocks.0.context_block.attn.proj",
                           "joint_blocks.1.x_block.attn.qkv", "joint_blocks.1.x_block.attn.proj",
                           "joint_blocks.1.context_block.attn.qkv"},
    ("flux", "attention"): {"double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.proj",
                            "double_blocks.0.txt_attn.qkv", "double_blocks.0.txt_attn.proj",
                            "single_blocks.0.linear1", "single_blocks.0.linear2"},
}
LAYERS["sd35", "attention"] = LAYERS["sd3", "attention"] | {"joint_blocks.0.x_block.attn2.qkv",
                                                            "joint_blocks.0.x_block.attn2.proj"}
MMDIT_MLP = {f"joint_blocks.{block}.mlp.{layer}" for layer in ("fc1", "fc2")
             for block in ("0.x_block", "0.context_block", "1.x_block")}
for _name in ("sd3", "sd35"):
    LAYERS[_name, "attention_and_feed_forward"] = LAYERS[_name, "attention"] | MMDIT_MLP
LAYERS["flux", "attention_and_feed_forward"] = LAYERS["flux", "attention"] | {
    f"double_blocks.0.{stream}_mlp.{layer}" for stream in ("img", "txt") for layer in (0, 2)}


@pytest.mark.parametrize(("name", "targets"), LAYERS)
def test_target_presets_choose_the_right_layers_of_joint_attention(models, name, targets):
    from comfyui_personalize.core.learning.adapter import find_targets

    found = find_targets(models(name)[0].model.diffusion_model, AdapterConfig(rank=4, targets=targets))
    assert set(found) == LAYERS[name, targets]
