"""DCI in networks that attend to text in every way that ComfyUI's have, of true structure and random weights: none of
them is known to it by name."""

from __future__ import annotations

import math

import comfy.ldm.modules.attention as attention
import comfy.samplers
import pytest
import torch
from dci_rig import PROMPT, apply_dci, counted_rows, encode, is_stood_in, ksample, without_mixing
from joint_models import CLOSED, KINDS, joint_clip, joint_model

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.attention_probe import look_at, scale_of
from comfyui_personalize.nodes.bridge.dci.branch_mixing import BranchMixing
from comfyui_personalize.nodes.bridge.dci.mixing_sites import mixing_sites, verdict

STEPS = 3
SITES = {"zimage": (["joint 0", "joint 1"], 2), "qwen": (["joint 0", "joint 1"], 2),
         "krea2": (["joint 0", "joint 1"], 2), "omnigen2": (["joint 0", "joint 1"], 2),
         "anima": (["cross 0", "cross 1"], 2), "hyimage": (["joint 0", "joint 1"], 1),
         "klein": (["joint 0", "joint 1"], 1)}
NOUN = dict.fromkeys(("hyimage", "omnigen2"), "very old cat")
"""An auxiliary noun of as many tokens as 'sks dog', where a text may not be padded."""


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=pytest.mark.full if name in ("klein", "omnigen2") else ()) for name in KINDS])
def kind(request):
    """Name, MODEL, CLIP, settings of the node."""
    name = request.param
    settings = {"auxiliary_noun": NOUN[name]} if name in NOUN else {}
    return name, joint_model(name), joint_clip(KINDS[name].text), settings


@pytest.fixture(scope="module")
def plain(kind):
    return kind[1], encode(kind[2], PROMPT), encode(kind[2], "")


@pytest.fixture(scope="module")
def dual(kind, plain):
    return (*apply_dci(*kind[1:3], **kind[3]), plain[2])


def sample(name, model, positive, negative, rows=1, **changes):
    latent = {"samples": torch.zeros(rows, *KINDS[name].latents)}
    settings = {"steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "seed": 5}
    return ksample(model, positive, negative, latent, **{**settings, **changes})


def spread(first, second):
    return float((first - second).abs().max() / first.std())


def test_sites_are_the_attentions_of_the_image_to_the_text(kind):
    names, scale = SITES[kind[0]]
    assert mixing_sites(kind[1]).names == dict.fromkeys(names, scale)
    assert verdict(kind[1]) == "works"


def test_window_zero_is_plain_sampling_bit_by_bit(kind, plain):
    model, positive = apply_dci(*kind[1:3], window=0.0, **kind[3])
    assert torch.equal(sample(kind[0], model, positive, plain[2]), sample(kind[0], *plain))


def test_branches_that_do_not_meet_are_plain_sampling(kind, plain, dual):
    assert spread(sample(kind[0], *plain), sample(kind[0], without_mixing(dual[0]), *dual[1:])) < 1e-4


def test_omega_changes_the_picture_and_the_same_seed_gives_the_same_bits(kind, plain, dual):
    pictures = [sample(kind[0], *plain), sample(kind[0], *dual)]
    for omega in (0.8, 2.0):
        model, positive = apply_dci(*kind[1:3], omega=omega, **kind[3])
        pictures.append(sample(kind[0], model, positive, plain[2]))
    for number, first in enumerate(pictures):
        assert first.isfinite().all()
        assert all(spread(first, second) > 1e-4 for second in pictures[:number])
    assert torch.equal(sample(kind[0], *dual), pictures[1])


def test_a_batch_equals_singles(kind, dual):
    both = sample(kind[0], *dual, rows=2)
    assert spread(both[:1], sample(kind[0], *dual)) < 1e-3


def test_rows_are_one_more_for_a_step_in_the_window(kind, plain, dual):
    with counted_rows(kind[1]) as calls:
        sample(kind[0], *plain)
        before = sum(calls)
        calls.clear()
        sample(kind[0], *dual)
    sigmas = comfy.samplers.calculate_sigmas(kind[1].get_model_object("model_sampling"), "simple", STEPS)
    end = float(kind[1].get_model_object("model_sampling").percent_to_sigma(0.3))
    assert before == 2 * STEPS and sum(calls) == before + int((sigmas > end).sum()) > before


def test_a_run_looks_once_at_the_network(kind, dual):
    looks = []
    network = kind[1].model.diffusion_model
    handle = network.register_forward_pre_hook(lambda *_: looks.append(1) if is_stood_in(network) else None)
    try:
        sample(kind[0], *dual)
    finally:
        handle.remove()
    assert len(looks) == 3 and not is_stood_in(network)


# ---- DBIM itself, against an attention written plainly ----

class PlainDBIM:
    """The same network call with DBIM on every site by an attention that writes out each step, head by head."""

    def __init__(self, sites, prompt, omega):
        self.sites, self.prompt, self.omega, self.number = sites, prompt, omega, -1

    def __call__(self, function, q, k, v, heads, *arguments, **settings):
        self.number += 1
        out = function(q, k, v, heads, *arguments, **settings).clone()
        site = self.sites.get(self.number)
        if site is None:
            return out
        split = settings.get("skip_reshape", False)
        query, key = (rows if split else rows.unflatten(-1, (-1, q.shape[-1] // heads)).transpose(1, 2)
                      for rows in (q, k))
        mask = arguments[0] if arguments else settings.get("mask")
        image = list(range(query.shape[2]))[site.image] if isinstance(site.image, slice) else site.image.tolist()
        text = list(range(key.shape[2]))[site.text] if isinstance(site.text, slice) else site.text.tolist()
        for head in range(heads):
            maps = []
            for row, tokens in ((0, self.prompt.concept), (1, self.prompt.auxiliary)):
                keys = key[row, head * key.shape[1] // heads][text].float()
                logits = query[row, head][image].float() @ keys.T / math.sqrt(query.shape[-1])
                if mask is not None:
                    read = mask.reshape(mask.shape[0], -1)[min(row, mask.shape[0] - 1)][-key.shape[2]:][text]
                    logits = logits.masked_fill(~read if read.dtype == torch.bool else read < -1e4, -torch.inf)
                a = torch.softmax(logits, -1)
                sharp = torch.softmax(10 * a[:, list(tokens.content)], -1)
                maps.append(sum(sharp[:, place] for place, column in enumerate(tokens.content)
                                if column in tokens.counted))
            c, o = (500 * torch.softmax(10 * each, 0) for each in maps)
            weight = torch.softmax(torch.stack([c, self.omega * o]), 0)[0]
            size = out.shape[-1] // heads
            part = slice(head * size, (head + 1) * size)
            out[0][image, part] = (weight[:, None] * out[0][image, part] + (1 - weight[:, None]) * out[1][image, part])
        return out


def first_call(model, name, positive, monkeypatch, override=None):
    """The network's estimate in the first step, without guidance; mixed by `override` in place of DCI's own."""
    from comfyui_personalize.nodes.bridge.dci import joint_attention

    kept = {}
    original = joint_attention._Attention

    def made(run, pairs, sites, before):
        kept["sites"], kept["prompt"] = sites, next(iter(pairs.values()))
        return original(run, pairs, sites, before) if override is None else override(sites, kept["prompt"])

    monkeypatch.setattr(joint_attention, "_Attention", made)
    network, outputs = model.model.diffusion_model, []
    handle = network.register_forward_hook(
        lambda _, inputs, output: None if is_stood_in(network) else outputs.append(output))
    try:
        sample(name, model, positive, positive, steps=2, cfg=1.0)
    finally:
        handle.remove()
    return outputs[0]


@pytest.mark.parametrize("omega", [1.0, 0.0])
def test_one_network_call_equals_dbim_written_plainly(kind, omega, monkeypatch):
    name, model, clip, settings = kind
    patched, positive = apply_dci(model, clip, omega=omega, **settings)
    actual = first_call(patched, name, positive, monkeypatch)
    expected = first_call(patched, name, positive, monkeypatch,
                          lambda sites, prompt: PlainDBIM(sites, prompt, omega))
    assert actual.shape[0] == 2
    torch.testing.assert_close(actual, expected, atol=2e-5 * float(expected.std()), rtol=1e-4)


def test_a_mask_of_one_leaves_the_concept_rows_as_they_are(kind, plain, dual, monkeypatch):
    monkeypatch.setattr(BranchMixing, "mix", lambda run, layer, outputs, *_: outputs[: run.rows])
    assert torch.equal(sample(kind[0], *dual), sample(kind[0], without_mixing(dual[0]), *dual[1:]))


# ---- What is refused ----

@pytest.mark.parametrize("name", CLOSED)
def test_a_network_that_shows_its_attention_to_no_node_is_refused_before_anything_is_encoded(name):
    words = f"model: got {name}.*, which shows its attention to no node .* without transformer_options.*, expected"
    with pytest.raises(InputError, match=words):
        apply_dci(joint_model(name), None)
    assert verdict(joint_model(name)).startswith(f"model: got {name}")


@pytest.mark.parametrize("name", NOUN)
def test_a_network_that_takes_no_mask_for_several_rows_says_which_noun_to_choose(name):
    model, clip = joint_model(name), joint_clip(name)
    patched, positive = apply_dci(model, clip)  # 'cat' is shorter than 'sks dog', and padded under a mask
    with pytest.raises(InputError, match="two texts in one call.*as many tokens as the subject"):
        sample(name, patched, positive, encode(clip, ""))


def test_a_network_that_calls_attention_in_another_order_later_is_refused():
    model, clip = joint_model("qwen"), joint_clip("qwen")
    patched, positive = apply_dci(model, clip)

    def one_more(executor, *arguments, **settings):
        if not is_stood_in(model.model.diffusion_model):
            options = next(each for each in (*arguments, *settings.values()) if isinstance(each, dict))
            attention.optimized_attention(*[torch.zeros(1, 4, 8)] * 3, 1, transformer_options=options)
        return executor(*arguments, **settings)

    patched.add_wrapper_with_key("diffusion_model", "one_more", one_more)
    with pytest.raises(InputError, match="attention calls in another order"):
        sample("qwen", patched, positive, encode(clip, ""))


# ---- The look itself ----

class Toy(torch.nn.Module):
    """A joint attention over [kept text columns, image], which leaves out the columns that a mask does not hold."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept
        self.image, self.text = torch.nn.Linear(4, 8), torch.nn.Linear(6, 8)

    def forward(self, latents, context, override):
        tokens = torch.cat([self.text(context[:, self.kept]), self.image(latents.flatten(2).transpose(1, 2))], 1)
        return override(attention.attention_basic, tokens, tokens, tokens, 2)


def test_each_column_is_found_where_it_stands_also_where_columns_are_left_out():
    kept = [4, 1, 2, 6]
    network = Toy(kept)
    context = torch.randn(1, 7, 6, generator=torch.Generator().manual_seed(0))
    site, = look_at(network, network, torch.randn(1, 4, 2, 3), context).sites
    assert site.missing is not None and site.missing.tolist() == [True, False, False, True, False, True, False]
    assert site.image == slice(4, 10) and site.scale == 1
    assert [int(site.text[column]) for column in kept] == [0, 1, 2, 3]


def test_layers_are_as_before_after_a_look_that_fails():
    network = Toy([0])
    before = network.text.forward
    with pytest.raises(IndexError):
        look_at(network, lambda *_: [][0], torch.zeros(1, 4, 2, 2), torch.zeros(1, 7, 6))
    assert network.text.forward == before and not is_stood_in(network)


@pytest.mark.parametrize(("tokens", "height", "width", "scale"), [(64, 16, 16, 2), (15, 9, 5, 2), (96, 8, 12, 1),
                                                                 (16, 64, 64, 16)])
def test_scale_is_the_side_of_a_token_in_cells(tokens, height, width, scale):
    assert scale_of(tokens, torch.zeros(1, 4, height, width)) == scale
