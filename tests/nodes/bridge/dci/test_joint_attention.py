"""DCI in joint attention: SD3, SD3.5 and Flux of true structure, random weights and two blocks."""

from __future__ import annotations

import logging
import math

import comfy.ldm.flux.math as flux_math
import comfy.ldm.modules.diffusionmodules.mmdit as mmdit
import comfy.sample
import comfy.samplers
import node_helpers
import pytest
import torch
from dci_rig import PROMPT, apply_dci, assert_close, counted_rows, empty_latent, encode, is_stood_in, ksample
from families import JOINT, family_models
from run_node import run_node

from comfyui_personalize.core.dci.latents import auxiliary_noise, share_noise_prediction
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.dual_prompt import CONDITIONING_KEY
from comfyui_personalize.nodes.bridge.dci.joint_attention import EXPERIMENTAL
from comfyui_personalize.nodes.bridge.dci.mixing_sites import mixing_sites
from comfyui_personalize.nodes.dci_masks import DCIMasks

STEPS, SEED, WINDOW = 6, 11, 0.3
CFG = {"sd3": 4.0, "sd35": 4.0, "flux": 1.0}
AUXILIARY_PROMPT = "a photo of a cat in times square"
CLIP_COLUMNS = {  # BOS is column 0: a photo of a sks dog in times square
    "concept": (range(1, 10), (5, 6)), "auxiliary": (range(1, 9), (1, 2, 3, 4, 6, 7, 8))}


@pytest.fixture(scope="module", params=JOINT)
def family(request):
    """Name, MODEL, CLIP."""
    return (request.param, *family_models(request.param)[:2])


@pytest.fixture(scope="module")
def plain(family):
    """MODEL, positive and negative without DCI."""
    _, model, clip = family
    return model, encode(clip, PROMPT), encode(clip, "")


@pytest.fixture(scope="module")
def dual(family, plain):
    return (*apply_dci(*family[1:]), plain[2])


def sample(name, model, positive, negative, latent=None, **changes):
    settings = {"steps": STEPS, "cfg": CFG[name], "sampler_name": "euler", "scheduler": "simple", "seed": SEED}
    return ksample(model, positive, negative, latent, **{**settings, **changes})


def flow_sigmas(model):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS).tolist()


def window_steps(model):
    end = float(model.get_model_object("model_sampling").percent_to_sigma(WINDOW))
    return sum(sigma > end for sigma in flow_sigmas(model)[:-1])


def test_every_block_is_a_site_at_the_scale_of_its_patches(family):
    name, model, _ = family
    names = ["joint 0", "joint 1"]
    assert mixing_sites(model).names == dict.fromkeys(names, 2)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_window_zero_is_plain_sampling_bit_by_bit(family, plain, sampler):
    model, positive = apply_dci(*family[1:], window=0.0)
    assert torch.equal(sample(family[0], model, positive, plain[2], empty_latent(2), sampler_name=sampler),
                       sample(family[0], *plain, empty_latent(2), sampler_name=sampler))


def test_dci_changes_the_picture_and_omega_changes_it_again(family, plain, dual):
    outputs = [sample(family[0], *plain), sample(family[0], *dual)]
    for omega in (0.8, 2.0):
        model, positive = apply_dci(*family[1:], omega=omega)
        outputs.append(sample(family[0], model, positive, plain[2]))
    for index, first in enumerate(outputs):
        assert first.isfinite().all()
        assert all((first - second).abs().max() > 1e-4 * first.std() for second in outputs[:index])


@pytest.mark.parametrize(("shared", "extra"), [(True, 1), (False, 2)])
def test_rows_are_as_counted_from_the_schedule(family, plain, shared, extra):
    name, model, clip = family
    patched, positive = apply_dci(model, clip, shared_guidance=shared)
    per_step = 1 if CFG[name] == 1 else 2
    in_window = window_steps(model)
    assert 0 < in_window < STEPS
    with counted_rows(model) as calls:
        sample(name, *plain, empty_latent(2))
        assert sum(calls) == 2 * per_step * STEPS
        calls.clear()
        sample(name, patched, positive, plain[2], empty_latent(2))
    assert sum(calls) == 2 * (per_step * STEPS + min(extra, per_step) * in_window)


def test_same_seed_gives_the_same_bits_and_a_batch_equals_singles(family, dual):
    name = family[0]
    both = sample(name, *dual, empty_latent(2))
    assert torch.equal(both, sample(name, *dual, empty_latent(2)))
    for row in range(2):
        single = sample(name, *dual, {**empty_latent(1), "batch_index": [row]})
        assert_close(both[row : row + 1], single, 1e-3)


def test_counted_tokens_are_the_words_in_every_text_encoder(family, dual):
    name, _, clip = family
    prompt = dual[1][0][1][CONDITIONING_KEY]
    t5 = [entry[0] for entry in clip.tokenize(PROMPT)["t5xxl"][0]]
    phrase = [entry[0] for entry in clip.tokenize("sks dog")["t5xxl"][0]]
    phrase = phrase[: phrase.index(1)]  # up to the end token: _ s k s _dog
    offset = 0 if name == "flux" else 77
    in_t5 = [column - offset for column in prompt.concept.counted if column >= offset]
    assert [t5[column] for column in in_t5] == phrase and len(phrase) > 2
    assert [column for column in prompt.concept.counted if column < offset] == list(CLIP_COLUMNS["concept"][1]
                                                                                    if offset else ())
    assert prompt.concept.length == prompt.auxiliary.length == offset + len(t5)


# ---- A guided dual trajectory, written plainly: no hooks, no ComfyUI sampler, velocity space, pixel by pixel. ----

def evidence(query, key, content, counted):
    """m of DBIM 1-3 at one pixel and head: query (d,), text keys (T, d)."""
    attention = torch.softmax(key @ query / math.sqrt(len(query)), 0)
    sharp = torch.softmax(torch.stack([10 * attention[k] for k in content]), 0)
    return sum(value for k, value in zip(content, sharp, strict=True) if k in counted)


class PlainAttention:
    """Joint attention of a pair of rows in place of ComfyUI's, one head after the other, with DBIM 1-6."""

    def __init__(self, text, columns, omega):
        self.text, self.columns, self.omega = text, columns, omega

    def __call__(self, q, k, v, heads, skip_reshape=False, **_):
        split = [rows if skip_reshape else rows.unflatten(-1, (heads, -1)).transpose(1, 2)
                 for rows in (q, k, v if v.ndim == 3 or skip_reshape else v.flatten(2))]
        head_outputs = [self.head(*(rows[:, head] for rows in split)) for head in range(heads)]
        return torch.cat(head_outputs, -1)

    def head(self, query, key, value):
        plain = [torch.softmax(query[row] @ key[row].T / math.sqrt(query.shape[-1]), -1) @ value[row]
                 for row in range(len(query))]
        if self.omega is None or len(query) != 2 or query.shape[1] <= self.text:
            return torch.stack(plain)
        maps = [torch.stack([evidence(pixel, key[row][: self.text], *self.columns[row])
                             for pixel in query[row][self.text :]]) for row in (0, 1)]
        logits = torch.stack([500 * torch.softmax(10 * maps[0], 0), self.omega * 500 * torch.softmax(10 * maps[1], 0)])
        weight = torch.softmax(logits, 0)
        image = weight[0][:, None] * plain[0][self.text :] + weight[1][:, None] * plain[1][self.text :]
        return torch.stack([torch.cat([plain[0][: self.text], image]), plain[1]])


class PlainNetwork:
    """v(z, sigma, context), with the network's own weights and plain attention."""

    def __init__(self, name, model, columns):
        self.name, self.model, self.columns = name, model.model, columns

    def __call__(self, latents, sigma, conditionings, omega=None):
        contexts = torch.cat([context for context, _ in conditionings])
        pooled = torch.cat([extra["pooled_output"] for _, extra in conditionings])
        timestep = self.model.model_sampling.timestep(torch.full((len(latents),), sigma))
        settings = {"guidance": torch.full((len(latents),), 3.5)} if self.name == "flux" else {}
        plain = PlainAttention(contexts.shape[1], self.columns, omega)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flux_math, "optimized_attention", plain)
            patch.setattr(mmdit, "optimized_attention", plain)
            return self.model.diffusion_model(latents, timestep, context=contexts, y=pooled, **settings)


def transcribed_run(name, model, network, texts, noise, omega, shared):
    """METHODS 2 for a flow model, z = (1 - sigma) x0 + sigma eps, dz/dsigma = v: Euler steps, v guided by cfg.

    Shared guidance shares the unconditional v: both branches then relax as with a shared eps in other models.
    """
    prompt, auxiliary_prompt, empty = texts
    concept, auxiliary = noise, auxiliary_noise(noise, SEED)
    cfg, sigmas = CFG[name], flow_sigmas(model)
    end = float(model.get_model_object("model_sampling").percent_to_sigma(WINDOW))
    for sigma, then in zip(sigmas, sigmas[1:], strict=False):
        unguided = network(concept, sigma, [empty]) if cfg != 1 else 0.0
        if sigma > end:
            v_c, v_a = network(torch.cat([concept, auxiliary]), sigma, [prompt, auxiliary_prompt], omega).split(1)
            other = unguided if shared or cfg == 1 else network(auxiliary, sigma, [empty])
            auxiliary = auxiliary + (then - sigma) * (other + cfg * (v_a - other))
        else:
            v_c = network(concept, sigma, [prompt])
        concept = concept + (then - sigma) * (unguided + cfg * (v_c - unguided))
    return model.model.process_latent_out(concept)


def columns_of(dual):
    prompt = dual[1][0][1][CONDITIONING_KEY]
    return [(tokens.content, tokens.counted) for tokens in (prompt.concept, prompt.auxiliary)]


@pytest.mark.parametrize(("omega", "shared"), [(1.0, True), (0.8, False)])
def test_guided_dual_trajectory_equals_the_plain_transcription(family, plain, dual, omega, shared):
    name, model, clip = family
    patched, positive = apply_dci(model, clip, omega=omega, shared_guidance=shared)
    actual = sample(name, patched, positive, plain[2])
    with torch.inference_mode():
        texts = [encode(clip, text)[0] for text in (PROMPT, AUXILIARY_PROMPT, "")]
        noise = comfy.sample.prepare_noise(torch.zeros(1, 16, 8, 8), SEED)
        network = PlainNetwork(name, model, columns_of(dual))
        expected = transcribed_run(name, model, network, texts, noise, omega, shared)
    assert_close(actual, expected, 1e-4)
    assert (sample(name, *plain) - expected).abs().max() > 1e-3 * expected.std()


def test_one_network_call_equals_the_transcription_to_1e_5(family, dual):
    """The concept row of the very first call, where nothing has added up yet."""
    name, model, clip = family
    seen = []
    network = model.model.diffusion_model
    handle = network.register_forward_hook(
        lambda _, inputs, output: None if is_stood_in(network) else seen.append((inputs[0], output)))
    try:
        sample(name, *dual, steps=2, cfg=1.0)
    finally:
        handle.remove()
    latents, actual = seen[0]
    with torch.inference_mode():
        texts = [encode(clip, text)[0] for text in (PROMPT, AUXILIARY_PROMPT)]
        sigma = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)[0]
        expected = PlainNetwork(name, model, columns_of(dual))(latents, float(sigma), texts, 1.0)
    assert actual.shape == (2, 16, 8, 8)
    torch.testing.assert_close(actual, expected, atol=1e-5 * float(expected.std()), rtol=1e-5)


def test_sharing_the_estimate_of_a_flow_model_shares_its_velocity():
    generator = torch.Generator().manual_seed(0)
    concept, auxiliary, velocity = (torch.randn(2, 16, 4, 4, generator=generator) for _ in range(3))
    for sigma in (1.0, 0.7, 0.1):  # also at pure noise, where no noise prediction could be shared
        shared = share_noise_prediction(concept - sigma * velocity, concept, auxiliary)
        torch.testing.assert_close((auxiliary - shared) / sigma, velocity, atol=1e-5, rtol=1e-5)


# ---- In company ----

def test_earlier_block_and_attention_replacements_are_still_called(family, dual):
    name = family[0]
    calls = []

    def replacement(arguments, extra):
        calls.append("block")
        return extra["original_block"](arguments)

    def attention(function, *arguments, **settings):
        calls.append("attention")
        return function(*arguments, **settings)

    model = dual[0].clone()
    model.set_model_patch_replace(replacement, "dit", "double_block", 0)
    model.model_options["transformer_options"]["optimized_attention_override"] = attention
    out = sample(name, model, *dual[1:])
    assert calls.count("block") >= STEPS and calls.count("attention") >= 2 * STEPS
    assert torch.equal(out, sample(name, *dual))


def test_reference_pictures_are_not_mixed():
    model, clip = family_models("flux")[:2]
    patched, positive = apply_dci(model, clip)
    reference = torch.randn(1, 16, 8, 4, generator=torch.Generator().manual_seed(2))
    positive = node_helpers.conditioning_set_values(positive, {"reference_latents": [reference]})
    settings = {"seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
                "sheet": "layers", "shown": "mask", "threshold": 0.0, "overlay": False}
    _, mask, latent = run_node(DCIMasks, model=patched, positive=positive, negative=encode(clip, ""),
                               latent_image=empty_latent(), **settings)  # refused were there any pixels but the 16
    assert mask.shape == (1, 64, 64) and latent["samples"].isfinite().all()


def test_prompts_of_other_lengths_are_refused_because_text_cannot_be_repeated(family, dual):
    """SD3's CLIP makes chunks of 77: a second one for the auxiliary prompt alone cannot be padded away."""
    name, model, clip = family
    longer = " ".join(["word"] * 72)
    if name == "flux":  # T5's tokens are padded instead
        patched, positive = apply_dci(model, clip, prompt="a sks dog " + longer * 4, auxiliary_noun="very old grey cat")
        assert sample(name, patched, positive, dual[2]).isfinite().all()
        return
    patched, positive = apply_dci(model, clip, prompt=longer + " sks dog", auxiliary_noun="very old grey cat of mine")
    with pytest.raises(InputError, match="prompt: got c_crossattn of shape .* of the auxiliary prompt"):
        sample(name, patched, positive, dual[2])


def test_the_user_is_told_that_it_is_experimental(family, caplog):
    with caplog.at_level(logging.WARNING):
        apply_dci(*family[1:])
    assert EXPERIMENTAL in caplog.text
