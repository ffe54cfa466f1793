"""Rows of conditioning become what the model's own family asks for, and share a call where that changes nothing."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import comfy.supported_models
import pytest
import torch
from comfy.conds import CONDConstant, CONDCrossAttn, CONDRegular
from comfy.model_patcher import ModelPatcher
from tiny_model import random_weights

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.networks import build_model
from comfyui_personalize.nodes.bridge.model.conditions import calls_of, joined
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser, check_model
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.model.latent_shapes import in_model_space
from comfyui_personalize.nodes.bridge.text.encoder import row_of

pytestmark = pytest.mark.usefixtures("inference_mode")
CPU = torch.device("cpu")
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 1, "num_attention_heads": 2,
        "joint_attention_dim": 64}
LUMINA = {"image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 192, "cap_feat_dim": 64, "n_layers": 1,
          "qk_norm": True, "n_heads": 2, "n_kv_heads": 1, "axes_dims": [32, 32, 32], "axes_lens": [300, 512, 512],
          "rope_theta": 10000.0, "ffn_dim_multiplier": 4.0, "n_refiner_layers": 1}


def network(config, settings):
    """A MODEL of random weights, in float32."""
    made = getattr(comfy.supported_models, config)(dict(settings))
    made.set_inference_dtype(torch.float32, None)
    model = made.get_model({}, "", device=CPU)
    model.diffusion_model.load_state_dict(random_weights(model.diffusion_model, "", torch.Generator().manual_seed(0)))
    return ModelPatcher(model, load_device=CPU, offload_device=CPU)


def noise(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def masked_text(length, seed):
    """A CONDITIONING's parts, whose last four tokens are padding."""
    mask = torch.ones(1, length, dtype=torch.long)
    mask[:, -4:] = 0
    return noise(1, length, 64, seed=seed), {"pooled_output": None, "attention_mask": mask}


def plain_text(length, seed):
    return noise(1, length, 64, seed=seed), {"pooled_output": None}


def denoised(model, parts, latent, sigma):
    """The estimate of the clean LATENT in one stock step."""
    conditioning = [[parts[0], parts[1]]]
    return comfy.sample.sample_custom(
        model, noise(*latent.shape, seed=7), 1.0, comfy.samplers.sampler_object("euler"), torch.tensor([sigma, 0.0]),
        conditioning, conditioning, latent.clone(), disable_pbar=True, seed=7)


def without_frames(latent):
    return latent[:, :, 0] if latent.ndim == 5 else latent


@pytest.mark.parametrize(("config", "settings", "text", "shape"), [
    ("QwenImage", QWEN, plain_text, (1, 16, 1, 8, 8)), ("Lumina2", LUMINA, masked_text, (1, 16, 8, 8))])
def test_a_whole_row_predicts_what_stock_sampling_does_with_and_without_frames(config, settings, text, shape):
    model, latent, parts = network(config, settings), noise(*shape, seed=1), text(20, 5)
    expected = None
    with trainable(model), torch.no_grad():
        denoiser, index = ComfyDenoiser(model, 64), torch.tensor([400])
        clean = torch.stack(in_model_space(model, without_frames(latent)))
        noisy = denoiser.schedule.add_noise(clean, without_frames(noise(*shape, seed=7)), index)
        estimate = noisy - denoiser.schedule.sigmas[400] * denoiser(noisy, index, [row_of(*parts)])
        sigma = float(denoiser.schedule.sigmas[400])
    expected = denoised(model, parts, latent, sigma)
    ours = model.model.process_latent_out(estimate.unsqueeze(2) if len(shape) == 5 else estimate)
    assert torch.allclose(ours, expected, atol=1e-5 * float(expected.abs().max()))
    check_model(model)


def test_rows_of_other_texts_are_what_they_are_alone_and_calls_of_their_own():
    model = network("Lumina2", LUMINA)
    rows = [row_of(*masked_text(length, seed)) for seed, length in enumerate((20, 13, 20))]
    noisy, index = noise(3, 16, 8, 8, seed=2), torch.tensor([100, 500, 900])
    with trainable(model), torch.no_grad():
        denoiser, sizes = ComfyDenoiser(model, 64), []
        hook = denoiser.module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        together = denoiser(noisy, index, rows)
        hook.remove()
        alone = [denoiser(noisy[n:n + 1], index[n:n + 1], [row]) for n, row in enumerate(rows)]
    assert sizes == [2, 1]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize(("name", "calls"), [
    ("qwen_image", [3]), ("kandinsky5", [2, 1]), ("lumina2", [2, 1]),
    *(pytest.param(*case, marks=pytest.mark.full) for case in (
        ("lens", [3]), ("mage_flow", [3]), ("ideogram4", [3]), ("pixeldit", [2, 1]), ("flux", [2, 1])))])
def test_texts_of_other_lengths_are_padded_in_one_call_where_the_network_reads_a_mask_over_them(name, calls):
    case = CASES[name]
    model = build_model(case)
    rows = [row_of(*case.entry(seed, length)) for seed, length in enumerate((20, 13, 20))]
    noisy = noise(3, case.latent[0], *case.latent[-2:], seed=2)
    index = torch.tensor([100, 500, 900])
    with trainable(model), torch.no_grad():
        denoiser, sizes = ComfyDenoiser(model, 64), []
        denoiser(noisy, index, rows)  # asks once whether the mask is read
        hook = denoiser.module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        together = denoiser(noisy, index, rows)
        hook.remove()
        alone = torch.cat([denoiser(noisy[n:n + 1], index[n:n + 1], [row]) for n, row in enumerate(rows)])
    assert sizes == calls
    assert float((together - alone).abs().max() / alone.abs().max()) <= 1e-5


def test_an_error_in_the_network_leaves_the_model_as_it_was():
    model = network("Lumina2", LUMINA)
    stock = model.model.model_sampling
    with trainable(model), pytest.raises(RuntimeError):
        ComfyDenoiser(model, 64)(noise(1, 16, 8, 8, seed=2), torch.tensor([1]), [row_of(noise(1, 5, 63, seed=1), {})])
    assert model.model.model_sampling is stock and "get_dtype_inference" not in vars(model.model)


@pytest.mark.parametrize(("lengths", "may_repeat", "expected"), [
    ((5,), False, [[0]]), ((5, 5), False, [[0, 1]]), ((5, 3, 5, 2, 3), False, [[0, 2], [1, 4], [3]]),
    ((77, 154, 770), True, [[0, 1, 2]]),
])
def test_calls_are_by_length_unless_repeated_text_changes_nothing(lengths, may_repeat, expected):
    rows = [{"c_crossattn": CONDCrossAttn(torch.zeros(1, length, 2))} for length in lengths]
    assert calls_of(rows, may_repeat) == expected
    longest = joined([rows[number] for number in expected[0]])["c_crossattn"].shape[1]
    assert longest == (770 if may_repeat else lengths[0])


@pytest.mark.parametrize("other", [
    {"c_crossattn": CONDRegular(torch.zeros(1, 4, 2)), "num_tokens": CONDConstant(4)},
    {"c_crossattn": CONDRegular(torch.zeros(1, 5, 2)), "num_tokens": CONDConstant(4)},
    {"c_crossattn": CONDRegular(torch.zeros(1, 5, 2))},
])
def test_rows_of_other_conditions_stay_apart(other):
    one = {"c_crossattn": CONDRegular(torch.zeros(1, 5, 2)), "num_tokens": CONDConstant(5)}
    assert calls_of([one, other, one], True) == [[0, 2], [1]]
