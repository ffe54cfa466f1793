"""DCI's options as they act while sampling, and the nodes that carry them."""

from __future__ import annotations

import pytest
import torch
from dci_rig import (
    PROMPT,
    SETTINGS,
    apply_dci,
    assert_close,
    counted_rows,
    empty_latent,
    encode,
    ksample,
    steps_in_window,
)
from run_node import run_node

from comfyui_personalize.core.dci.config import DCIConfig
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci import dual_branch
from comfyui_personalize.nodes.bridge.dci.branch_mixing import BranchMixing
from comfyui_personalize.nodes.bridge.dci.dual_branch import dual_branch_of, record_masks
from comfyui_personalize.nodes.dci_conditioning import DCIConditioning
from comfyui_personalize.nodes.dci_encode import DCIEncode
from comfyui_personalize.nodes.dci_model import DCIModel
from comfyui_personalize.nodes.dci_options import DCIOptions

STEPS = 4


class Recorder:
    """Keeps what the layers say."""

    def __init__(self):
        self.calls = []

    def record(self, **call):
        self.calls.append(call)


@pytest.fixture(scope="module")
def negative(tiny):
    return encode(tiny[1], "")


def sample(tiny, negative, options=None, recorder=None, rows=1, steps=STEPS, **changes):
    """Latents of a run with DCI."""
    model, positive = apply_dci(*tiny, options=options, **changes)
    model = model if recorder is None else record_masks(model, recorder)
    return ksample(model, positive, negative, empty_latent(rows), steps=steps)


@pytest.fixture(scope="module")
def published(tiny, negative):
    return sample(tiny, negative)


def default_inputs(node):
    return {entry.id: entry.default for entry in node.GET_SCHEMA().inputs if hasattr(entry, "default")}


def test_the_nodes_defaults_are_the_configs():
    assert run_node(DCIOptions, **default_inputs(DCIOptions)) == (DCIConfig(),)


@pytest.mark.parametrize("node", [DCIConditioning, DCIModel])
def test_a_new_node_leaves_window_and_sharpening_to_the_size(tiny, node):
    given = {**SETTINGS, "clip": tiny[1]} if node is DCIConditioning else {"omega": 1.0, "shared_guidance": True}
    model = run_node(node, model=tiny[0], **{**given, "window": default_inputs(node)["window"]})[0]
    config = dual_branch_of(model).config
    assert config.window is None and config.is_sharpened_by_resolution


def test_on_the_published_size_auto_is_published_to_the_bit(tiny, negative):
    latent = empty_latent(size=64)
    auto, given = (ksample(*apply_dci(*tiny, window=window), negative, latent, steps=2) for window in (-1.0, 0.3))
    assert torch.equal(auto, given)


@pytest.mark.parametrize(("height", "width", "wanted"), [(12, 12, 1.0), (16, 9, 1.0), (32, 128, 0.3)])
def test_the_automatic_window_goes_by_the_number_of_cells(tiny, negative, height, width, wanted):
    latent = {"samples": torch.zeros(1, 4, height, width)}
    published = DCIConfig(sharpening="by_resolution")
    auto = ksample(*apply_dci(*tiny, window=-1.0), negative, latent, steps=2)
    assert torch.equal(auto, ksample(*apply_dci(*tiny, options=published, window=wanted), negative, latent, steps=2))


def test_the_node_hands_on_every_option():
    chosen = run_node(DCIOptions, omega_schedule=True, omega_end=0.5, window_sigma=5.0, auxiliary_noise="shared",
                      sharpening="by_resolution", scales="1, 4", seed_exact=False, aggregation="half", layers="last",
                      prompts="split")[0]
    assert chosen == DCIConfig(omega_end=0.5, window_sigma=5.0, auxiliary_noise="shared", sharpening="by_resolution",
                               scales=(1, 4), seed_exact=False, aggregation="half", layers="last", prompts="split")


def test_scales_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="whole numbers"):
        run_node(DCIOptions, **{**default_inputs(DCIOptions), "scales": "large"})


def test_the_two_parts_are_the_simple_node(tiny, negative, published):
    model, = run_node(DCIModel, model=tiny[0], omega=1.0, window=0.3, shared_guidance=True)
    positive, = run_node(DCIEncode, clip=tiny[1], prompt=PROMPT, identifier="sks", class_noun="dog",
                         auxiliary_noun="cat")
    assert torch.equal(ksample(model, positive, negative, steps=STEPS), published)


def test_one_model_serves_prompts_about_different_subjects(tiny, negative):
    model, = run_node(DCIModel, model=tiny[0], omega=1.0, window=0.3, shared_guidance=True)
    dog, bird = (run_node(DCIEncode, clip=tiny[1], prompt=f"a {name} {noun} at sea", identifier=name, class_noun=noun,
                          auxiliary_noun="cat")[0] for name, noun in (("sks", "dog"), ("ohwx", "bird")))
    with counted_rows(model) as calls:
        both = ksample(model, dog + bird, negative, steps=STEPS)
    assert both.isfinite().all() and sum(calls) == 3 * STEPS + 2 * steps_in_window(STEPS)


def test_two_subjects_in_one_prompt_share_one_auxiliary_prompt(tiny, negative):
    positive, = run_node(DCIEncode, clip=tiny[1], prompt="a sks dog and a ohwx cat at sea", identifier="sks, ohwx",
                         class_noun="dog, cat", auxiliary_noun="rabbit, bird")
    dual = positive[0][1]["personalize_dci"]
    assert dual.concept.counted == (2, 3, 6, 7) and dual.concept.content == tuple(range(1, 10))
    assert dual.auxiliary.content == tuple(range(1, 8)) and dual.auxiliary.counted == (1, 3, 4, 6, 7)
    model, = run_node(DCIModel, model=tiny[0], omega=1.0, window=0.3, shared_guidance=True)
    with counted_rows(model) as calls:
        assert ksample(model, positive, negative, steps=STEPS).isfinite().all()
    assert sum(calls) == 2 * STEPS + steps_in_window(STEPS)


def test_the_same_subject_in_two_ways_has_the_same_columns(tiny):
    prompt = "two sks dogs and one (sks dog:1.2)"
    dual = run_node(DCIEncode, clip=tiny[1], prompt=prompt, identifier="sks", class_noun="dog",
                    auxiliary_noun="cat")[0][0][1]["personalize_dci"]
    assert dual.concept.counted == (2, 3, 6, 7) and dual.auxiliary.counted == (1, 3, 4)


def test_the_recorder_sees_every_layer_of_every_call_in_the_window(tiny, negative):
    recorder = Recorder()
    sample(tiny, negative, recorder=recorder, rows=2, steps=8)
    names = dual_branch_of(apply_dci(*tiny)[0]).sites.names
    assert [call["layer"] for call in recorder.calls] == list(names) * steps_in_window(8)
    for call in recorder.calls:
        pixels = (8 // names[call["layer"]]) ** 2
        assert all(call[kind].shape == (2, 2, pixels) for kind in ("concept_map", "auxiliary_map", "mask"))
    sigmas = list(dict.fromkeys(call["sigma"] for call in recorder.calls))
    assert sigmas == sorted(sigmas, reverse=True) and len(sigmas) == steps_in_window(8)


def test_watching_changes_nothing(tiny, negative, published):
    assert torch.equal(sample(tiny, negative, recorder=Recorder()), published)


def test_names_tell_part_block_and_scale(tiny):
    names = dual_branch_of(apply_dci(*tiny)[0]).sites.names
    assert names == {"input 1.0": 1, "input 3.0": 2, "middle 0.0": 2, "output 0.0": 2, "output 1.0": 2,
                     "output 2.0": 1, "output 3.0": 1}


@pytest.mark.parametrize(("options", "kept"), [
    (DCIConfig(scales=(2,)), lambda names: [name for name, scale in names.items() if scale == 2]),
    (DCIConfig(layers="last"), lambda names: list(names)[-1:]),
    (DCIConfig(layers="last", scales=(2,)), lambda names: [name for name, scale in names.items() if scale == 2][-1:]),
])
def test_only_the_chosen_layers_mix(tiny, negative, published, options, kept):
    recorder = Recorder()
    out = sample(tiny, negative, options, recorder)
    names = dual_branch_of(apply_dci(*tiny)[0]).sites.names
    assert [call["layer"] for call in recorder.calls] == kept(names) and not torch.equal(out, published)


def test_a_scale_that_the_model_does_not_have_is_refused(tiny):
    with pytest.raises(InputError, match=r"\[1, 2\]"):
        apply_dci(*tiny, options=DCIConfig(scales=(64,)))


@pytest.mark.parametrize("options", [
    DCIConfig(sharpening="by_resolution"), DCIConfig(auxiliary_noise="shared"), DCIConfig(aggregation="half"),
    DCIConfig(aggregation="sum"), DCIConfig(prompts="split")], ids=str)
def test_every_option_gives_another_finite_picture(tiny, negative, published, options):
    out = sample(tiny, negative, options)
    assert out.isfinite().all() and (out - published).abs().max() > 1e-3 * published.std()


def test_omega_that_ends_where_it_began_is_constant(tiny, negative):
    steady = sample(tiny, negative, DCIConfig(omega_end=1.0), steps=8)
    assert torch.equal(steady, sample(tiny, negative, steps=8))
    assert not torch.equal(steady, sample(tiny, negative, DCIConfig(omega_end=-1.0), steps=8))


@pytest.mark.parametrize("window", [0.3, 1.0])
def test_omega_ends_where_the_window_does_also_where_that_is_the_last_step(tiny, negative, monkeypatch, window):
    seen = []

    def mixing(**fields):
        seen.append((fields["sigma"], fields["omega"]))
        return BranchMixing(**fields)

    monkeypatch.setattr(dual_branch, "BranchMixing", mixing)
    sample(tiny, negative, DCIConfig(omega=1.0, omega_end=-2.0, window=window), steps=8)
    omegas = [omega for _, omega in seen]
    assert omegas == sorted(omegas, reverse=True) and omegas[0] == pytest.approx(1.0, abs=1e-3)
    assert omegas[-1] < (-1.8 if window == 1 else 0.0)  # 0.3 ends between two steps


def test_the_window_may_be_given_as_a_noise_level(tiny, negative, published):
    sampling = tiny[0].get_model_object("model_sampling")
    level = float(sampling.percent_to_sigma(0.3))
    assert torch.equal(sample(tiny, negative, DCIConfig(window_sigma=level), window=0.9), published)
    beyond = float(sampling.sigma_max) + 1
    assert_close(sample(tiny, negative, DCIConfig(window_sigma=beyond)),
                 ksample(tiny[0], encode(tiny[1], PROMPT), negative, steps=STEPS), 1e-6)


def test_the_mean_of_equal_branches_is_the_branch(tiny, negative):
    """With one noise and one text the branches stay equal, so any mean of them is plain sampling."""
    model, positive = apply_dci(*tiny, options=DCIConfig(auxiliary_noise="shared", aggregation="half"))
    (context, extra), = positive
    same = type(extra["personalize_dci"])(context, context, extra["pooled_output"],
                                          *[extra["personalize_dci"].concept] * 2)
    out = ksample(model, [[context, {**extra, "personalize_dci": same}]], negative, steps=STEPS)
    assert_close(out, ksample(tiny[0], encode(tiny[1], PROMPT), negative, steps=STEPS), 1e-3)


def test_split_prompts_are_what_the_branches_read(tiny):
    context, extra = apply_dci(*tiny, options=DCIConfig(prompts="split"))[1][0]
    assert torch.equal(context, encode(tiny[1], "sks dog")[0][0])
    other = encode(tiny[1], "a photo of in times square")[0][0]
    assert torch.equal(extra["personalize_dci"].auxiliary_context, other)


def test_split_prompts_without_surroundings_are_refused(tiny):
    with pytest.raises(InputError, match="nothing but the subject"):
        apply_dci(*tiny, prompt="sks dog", options=DCIConfig(prompts="split"))


def test_simple_node_has_at_most_eight_widgets():
    assert len(default_inputs(DCIConditioning)) <= 8
