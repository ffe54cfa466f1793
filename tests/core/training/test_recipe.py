"""A recipe says what "auto" stands for, and why, before a key is made."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training.recipe import (
    VALUES,
    Asked,
    AskedSampling,
    Recipe,
    differences,
    levels_of,
    resolve,
    resolve_sampling,
)

RECIPE = Recipe(name="tiny", resolution=512, learning_rate=1e-4, steps_per_photo=100, rank=8, targets="attention",
                batch=2, timestep_sampling="uniform", shift={256: 1.5, 1024: 3.0}, captions="phrase", sampler="euler",
                scheduler="simple", sampling_steps=20, cfg=4.0, size=768,
                sources={name: f"published: {name}" for name in VALUES})


def test_everything_is_auto_where_nothing_was_asked_and_says_where_it_is_from():
    found = resolve(RECIPE, 5)
    assert found.values == {"resolution": 512, "learning_rate": 1e-4, "steps": 250, "batch": 2, "rank": 8,
                            "targets": "attention"}
    assert found.reasons["resolution"] == "recipe of tiny; published: resolution"
    assert found.reasons["steps"] == ("100 per photo, 5 photos, 2 per step: recipe of tiny; published: "
                                      "steps_per_photo")
    assert found.reasons.keys() == found.values.keys()


def test_what_was_asked_stays_and_steps_follow_the_asked_batch():
    found = resolve(RECIPE, 5, Asked(batch=4, learning_rate=3e-4))
    assert (found.values["batch"], found.values["learning_rate"], found.values["steps"]) == (4, 3e-4, 125)
    assert found.reasons["batch"] == found.reasons["learning_rate"] == "as asked"
    assert resolve(RECIPE, 5, Asked(steps=7)).values["steps"] == 7


def test_a_batch_is_never_more_than_all_photos():
    found = resolve(RECIPE, 1)
    assert (found.values["batch"], found.values["steps"]) == (1, 100)
    assert "1 photo," in found.reasons["steps"]


def test_prodigy_begins_at_one_and_all_weights_learn_at_a_twentieth():
    assert resolve(RECIPE, 5, optimizer="prodigy").values["learning_rate"] == 1.0
    found = resolve(RECIPE, 5, kind="full")
    assert found.values["learning_rate"] == pytest.approx(5e-6)
    assert "all weights" in found.reasons["learning_rate"] and "published" in found.reasons["learning_rate"]


def test_pictures_are_resolved_alike_and_no_guidance_is_no_auto():
    found = resolve_sampling(RECIPE, AskedSampling(cfg=0.0, sampler="lcm"))
    assert found.values == {"sampler": "lcm", "scheduler": "simple", "sampling_steps": 20, "cfg": 0.0, "size": 768}
    assert (found.reasons["cfg"], found.reasons["size"]) == ("as asked", "recipe of tiny; published: size")


def test_resolved_values_have_no_auto_left():
    names = {part.name for part in fields(Asked)} | {part.name for part in fields(AskedSampling)}
    values = {**resolve(RECIPE, 3).values, **resolve_sampling(RECIPE).values}
    assert values.keys() == names and None not in values.values()


def test_the_shift_is_the_formula_of_flux_between_and_beyond_its_two_ends():
    """exp(m n + b) for n latents of 16 pixels: 0.5 at 256 of them, 1.15 at 4096."""
    flux = replace(RECIPE, shift={256: math.exp(0.5), 1024: math.exp(1.15)})
    for size in (256, 512, 768, 1024, 1280):
        latents = (size // 16) ** 2
        assert flux.shift_at(size) == pytest.approx(math.exp((1.15 - 0.5) / (4096 - 256) * (latents - 256) + 0.5))
    assert replace(RECIPE, shift={1024: 3.0}).shift_at(64) == 3.0
    three = replace(RECIPE, shift={256: 1.6, 1024: 2.5, 1280: 3.2})
    assert [three.shift_at(size) for size in (256, 1024, 1280)] == pytest.approx([1.6, 2.5, 3.2])


def test_differences_are_those_of_value_and_not_of_rounding():
    resolved = resolve(RECIPE, 5)
    assert differences(resolved, {"learning_rate": 0.1 * 1e-3, "rank": 8}) == {}
    assert differences(resolved, {"rank": 16, "batch": 2}) == {"rank": (16, 8)}


@pytest.mark.parametrize(("name", "value"), [
    ("resolution", 100), ("resolution", 512.0), ("resolution", 4096), ("learning_rate", 0.0), ("learning_rate", "1e-4"),
    ("learning_rate", float("nan")), ("steps_per_photo", 0), ("steps_per_photo", True), ("rank", 0),
    ("targets", ""), ("targets", "("), ("targets", 5), ("batch", 0), ("timestep_sampling", "cosine"),
    ("timestep_sampling", []), ("shift", {}), ("shift", [3.0]), ("shift", {1024: 0.0}), ("shift", {1024: "3"}),
    ("captions", "poems"), ("sampler", ""), ("scheduler", None), ("sampling_steps", 0), ("cfg", -1.0), ("cfg", None),
    ("size", "1024"), ("name", "")])
def test_a_value_of_no_use_is_refused_by_its_name(name, value):
    with pytest.raises(InputError, match="target_pattern" if name == "targets" and value == "(" else name):
        replace(RECIPE, **{name: value})


def test_noise_levels_are_shifted_by_resolution_and_a_table_that_is_no_flow_is_left_as_it_is():
    assert levels_of(RECIPE, 1024, is_flow=True) == ("uniform", pytest.approx(3.0))
    assert levels_of(RECIPE, 256, is_flow=False) == ("uniform", pytest.approx(1.5))
    plain = replace(RECIPE, shift={512: 1.0}, timestep_sampling="logit_normal")
    assert levels_of(plain, 1024, is_flow=True) == ("logit_normal", 1.0)
    assert levels_of(plain, 1024, is_flow=False) == ("logit_normal", 0.0)
