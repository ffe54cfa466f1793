"""Two-branch sampling inside ComfyUI's own samplers, on a random model of Stable Diffusion's structure."""

from __future__ import annotations

import logging

import comfy.controlnet
import comfy.samplers
import nodes as stock
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy_extras import nodes_custom_sampler as custom
from dci_compatibility import control_network, hint
from dci_rig import (
    PROMPT,
    apply_dci,
    assert_close,
    counted_rows,
    empty_latent,
    encode,
    ksample,
    steps_in_window,
)

from comfyui_personalize.core.errors import InputError


@pytest.fixture(scope="module")
def plain(tiny):
    """MODEL, positive and negative without DCI."""
    model, clip = tiny
    return model, encode(clip, PROMPT), encode(clip, "")


@pytest.fixture(scope="module")
def dual(tiny, plain):
    """MODEL, positive and negative with DCI's defaults."""
    return (*apply_dci(*tiny), plain[2])


@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m", "uni_pc", "euler_ancestral"])
def test_window_zero_is_plain_sampling_bit_by_bit(tiny, plain, sampler):
    model, positive = apply_dci(*tiny, window=0.0)
    latent = empty_latent(2)
    assert torch.equal(ksample(model, positive, plain[2], latent, sampler_name=sampler),
                       ksample(*plain, latent, sampler_name=sampler))


def test_dci_changes_the_picture_and_omega_changes_it_again(tiny, plain, dual):
    outputs = [ksample(*plain), ksample(*dual)]
    for omega in (0.8, 1.2, 2.0):  # masks of 8 x 8 pixels are nearly binary: far below 1, plain
        model, positive = apply_dci(*tiny, omega=omega)
        outputs.append(ksample(model, positive, plain[2]))
    for i, first in enumerate(outputs):
        for second in outputs[:i]:
            assert first.isfinite().all() and (first - second).abs().max() > 0.01 * first.std()


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("shared", "guided_extra"), [(True, 1), (False, 2)])
def test_rows_per_run_are_as_counted_from_the_schedule(tiny, plain, rows, shared, guided_extra):
    model, positive = apply_dci(*tiny, shared_guidance=shared)
    steps, window_steps = 20, steps_in_window(20)
    assert window_steps == 6
    with counted_rows(model) as calls:
        ksample(*plain, empty_latent(rows), steps=steps)
        assert sum(calls) == 2 * rows * steps
        calls.clear()
        ksample(model, positive, plain[2], empty_latent(rows), steps=steps)
        assert sum(calls) == 2 * rows * steps + guided_extra * rows * window_steps


def test_rows_without_guidance_are_one_more_per_picture_in_the_window(dual):
    with counted_rows(dual[0]) as calls:
        ksample(*dual, empty_latent(2), cfg=1.0)
    assert sum(calls) == 2 * 8 + 2 * steps_in_window(8)


def test_a_step_is_one_network_call_as_in_plain_sampling(dual):
    with counted_rows(dual[0]) as calls:
        ksample(*dual)
    window_steps = steps_in_window(8)
    assert calls == [3] * window_steps + [2] * (8 - window_steps)


def test_a_controlnet_sees_no_rows_that_the_network_does_not(tiny, plain, dual):
    network = control_network()
    positive, negative = stock.ControlNetApplyAdvanced().apply_controlnet(dual[1], dual[2], network, hint(), 1.0, 0, 1)
    controlled = []
    network.control_model.register_forward_pre_hook(lambda _, inputs, named: controlled.append(
        named["x"].shape[0]), with_kwargs=True)
    with counted_rows(dual[0]) as calls:
        ksample(dual[0], positive, negative)
    window_steps = steps_in_window(8)
    assert calls == controlled == [2, 1] * window_steps + [2] * (8 - window_steps)


def test_same_seed_gives_the_same_bits(dual):
    assert torch.equal(ksample(*dual), ksample(*dual))
    assert not torch.equal(ksample(*dual), ksample(*dual, seed=4))


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_batch_of_two_equals_two_singles(dual, sampler):
    both = ksample(*dual, empty_latent(2), sampler_name=sampler)
    for row in range(2):
        single = ksample(*dual, {**empty_latent(1), "batch_index": [row]}, sampler_name=sampler)
        assert_close(both[row : row + 1], single, 1e-3)


def test_callback_sees_the_rows_of_the_batch(dual):
    seen = []
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sampler = comfy.samplers.KSampler(dual[0], steps=4, device="cpu", sampler="ddim", scheduler="normal",
                                      model_options=dual[0].model_options)
    with torch.inference_mode():
        out = sampler.sample(noise, dual[1], dual[2], cfg=4.0, latent_image=torch.zeros_like(noise), seed=1,
                             callback=lambda step, denoised, latents, total: seen.append(
                                 (step, denoised.shape, latents.shape, total)), disable_pbar=True)
    assert seen == [(step, noise.shape, noise.shape, 4) for step in range(4)] and out.shape == noise.shape


def test_image_to_image_that_starts_past_the_window_is_plain(plain, dual):
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))}
    assert torch.equal(ksample(*dual, latent, denoise=0.5), ksample(*plain, latent, denoise=0.5))
    assert not torch.equal(ksample(*dual, latent, denoise=0.9), ksample(*plain, latent, denoise=0.9))


def test_image_to_image_at_full_noise_runs_both_branches(dual):
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))}
    with counted_rows(dual[0]) as calls:
        assert ksample(*dual, latent).isfinite().all()
    assert sum(calls) == 16 + steps_in_window(8)


def test_inpainting_keeps_what_the_mask_keeps(dual):
    latent = {"samples": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5)),
              "noise_mask": torch.cat([torch.zeros(1, 1, 64, 32), torch.ones(1, 1, 64, 32)], dim=3)}
    out = ksample(*dual, latent)
    torch.testing.assert_close(out[..., :4], latent["samples"][..., :4], atol=1e-5, rtol=0)
    assert (out[..., 4:] - latent["samples"][..., 4:]).abs().max() > 0.1


def test_stages_split_after_the_window_equal_the_whole(dual):
    steps, split = 8, steps_in_window(8)
    whole = ksample(*dual, steps=steps)
    first = ksample(*dual, steps=steps, last_step=split)
    second = ksample(*dual, {"samples": first}, steps=steps, start_step=split, disable_noise=True)
    assert_close(second, whole, 1e-3)


def test_stages_split_inside_the_window_run_both_branches_in_both(dual):
    with counted_rows(dual[0]) as calls:
        first = ksample(*dual, last_step=1)
        assert sum(calls) == 3
        second = ksample(*dual, {"samples": first}, start_step=1, disable_noise=True)
    assert second.isfinite().all() and sum(calls) == 16 + steps_in_window(8)


def custom_sample(guider, model, steps=8):
    sigmas = custom.BasicScheduler.execute(model, "normal", steps, 1.0).args[0]
    sampler = custom.KSamplerSelect.execute("ddim").args[0]
    noise = custom.RandomNoise.execute(3).args[0]
    with torch.inference_mode():
        return custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, empty_latent()).args


def test_custom_sampler_with_cfg_guider_equals_ksampler(dual):
    guider = custom.CFGGuider.execute(dual[0], dual[1], dual[2], 4.0).args[0]
    output, denoised = custom_sample(guider, dual[0])
    assert torch.equal(output["samples"], ksample(*dual)) and denoised["samples"].shape == (1, 4, 8, 8)


def test_custom_sampler_with_basic_guider_counts_one_more_row_in_the_window(dual):
    guider = custom.BasicGuider.execute(dual[0], dual[1]).args[0]
    with counted_rows(dual[0]) as calls:
        output = custom_sample(guider, dual[0])[0]["samples"]
    assert output.isfinite().all() and sum(calls) == 8 + steps_in_window(8)


@pytest.mark.parametrize(("shared", "in_window"), [(True, [2, 1]), (False, [2, 2])])
def test_little_memory_splits_calls_and_changes_nothing(monkeypatch, tiny, plain, shared, in_window):
    model, positive = apply_dci(*tiny, shared_guidance=shared)
    window_steps = steps_in_window(8)
    with counted_rows(model) as calls:
        whole = ksample(model, positive, plain[2])
        assert calls == [sum(in_window)] * window_steps + [2] * (8 - window_steps)
        calls.clear()
        monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: 0)
        split = ksample(model, positive, plain[2])
    assert len(calls) == 16 and sorted(calls[: 2 * window_steps]) == sorted(in_window * window_steps)
    assert calls[2 * window_steps :] == [1] * 2 * (8 - window_steps)
    assert_close(split, whole, 1e-3)


def test_existing_attention_replacement_is_still_called(dual):
    calls = []

    def replacement(query, key, value, options):
        calls.append(query.shape[0])
        return optimized_attention(query, key, value, options["n_heads"])

    model = dual[0].clone()
    model.set_model_attn2_replace(replacement, "middle", 0)
    out = ksample(model, dual[1], dual[2])
    window_steps = steps_in_window(8)
    assert calls == [3] * window_steps + [2] * (8 - window_steps)
    assert_close(out, ksample(*dual), 1e-4)


def test_lora_counts_before_and_after_the_node(tiny, plain, dual):
    model, clip = tiny
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    delta = torch.randn(model.model.state_dict()[key].shape, generator=torch.Generator().manual_seed(2))

    def with_lora(target):
        patched = target.clone()
        assert patched.add_patches({key: ("diff", (delta,))}, 1.0)
        return patched

    after = ksample(with_lora(dual[0]), dual[1], dual[2])
    before_model, before_positive = apply_dci(with_lora(model), clip)
    assert torch.equal(after, ksample(before_model, before_positive, plain[2]))
    assert (after - ksample(*dual)).abs().max() > 1e-3 * after.std()


def test_applying_the_node_again_replaces_the_first_settings(tiny, plain, dual):
    model, positive = apply_dci(apply_dci(*tiny, window=1.0)[0], tiny[1])
    with counted_rows(model) as calls:
        assert torch.equal(ksample(model, positive, plain[2]), ksample(*dual))
    assert sum(calls) == 2 * (16 + steps_in_window(8))


def test_plain_conditioning_on_a_patched_model_is_plain_and_warns_once(plain, dual, caplog):
    with caplog.at_level(logging.WARNING):
        out = ksample(dual[0], plain[1], plain[2])
    assert torch.equal(out, ksample(*plain))
    assert len([record for record in caplog.records if "sampling without DCI" in record.message]) == 1


def test_dual_conditioning_on_an_unpatched_model_is_plain(plain, dual):
    assert torch.equal(ksample(plain[0], dual[1], plain[2]), ksample(*plain))


def test_dual_conditioning_as_negative_too_counts_as_a_negative(dual):
    with counted_rows(dual[0]) as calls:
        assert ksample(dual[0], dual[1], dual[1]).isfinite().all()
    assert sum(calls) == 16 + steps_in_window(8)


def test_conditioning_changed_on_the_way_is_refused(tiny, dual, plain):
    other = encode(tiny[1], "a boat")
    changed = [stock.ConditioningAverage().addWeighted(dual[1], other, 0.5)[0],
               stock.ConditioningZeroOut().zero_out(dual[1])[0]]
    for positive in changed:
        with pytest.raises(InputError, match="changed after DCI encoded it"):
            ksample(dual[0], positive, plain[2])


def test_sampling_leaves_model_and_conditioning_as_they_were(dual):
    keys = {name: list(value) for name, value in dual[0].wrappers["outer_sample"].items()}
    shape = dual[1][0][0].shape
    ksample(*dual)
    assert dual[1][0][0].shape == shape and dual[1][0][1].keys() == {"pooled_output", "personalize_dci"}
    assert {name: list(value) for name, value in dual[0].wrappers["outer_sample"].items()} == keys
    assert "calc_cond_batch" not in dual[0].wrappers
    assert "wrappers" not in dual[0].model_options["transformer_options"]
