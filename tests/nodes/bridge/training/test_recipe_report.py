"""The report names the family's recipe, and where the user's settings are others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_graphs import request
from tiny_model import tiny_models
from trainer_rig import photos, subjects, train

from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.model import recipes
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.bridge.training.plan import make_plan
from comfyui_personalize.nodes.bridge.training.recipe_report import about_recipe, warnings_about_recipes

pytestmark = pytest.mark.usefixtures("inference_mode", "store", "own_recipe")
RECIPE = ("recipe of Stable Diffusion 1.5: 512 pixels, learning rate 0.0001, 100 steps per photo, rank 16 in "
          "attention, batch 1; ")
LEVELS = "noise levels of Stable Diffusion 1.5: uniform; yours are the same"
CAPTIONS = "captions of Stable Diffusion 1.5: a phrase, such as 'a {V} {noun}'; yours begin with 'a sks dog'"


@pytest.fixture
def models():
    return tiny_models()


def test_settings_of_the_recipe_are_the_same(models):
    asked = request(models, steps=200, resolution=512, subject=subjects(photos=photos(2)))
    assert about_recipe(asked) == [RECIPE + "yours are the same", LEVELS, CAPTIONS]


def test_each_other_setting_is_told_with_the_recipes_beside_it(models):
    options = TrainingOptions(adapter=AdapterConfig(rank=4, targets="cross_attention_kv"))
    told = about_recipe(request(models, steps=5, learning_rate=1e-3, batch=2, options=options))
    assert told[1:] == [LEVELS, CAPTIONS]
    assert told[0] == (RECIPE + "yours differ in resolution (64 instead of 512), learning rate (0.001 instead of "
                       "0.0001), steps (5 instead of 200), batch (2 instead of 1), rank (4 instead of 16), targets "
                       "(cross_attention_kv instead of attention)")


@pytest.mark.parametrize(("options", "rate", "absent"), [
    (TrainingOptions(adapter=AdapterConfig(kind="full", targets="attention")), 5e-6, "rank ("),
    (TrainingOptions(optimizer="prodigy"), 1e-4, "rank ("),
    (TrainingOptions(trains_denoiser=False), 0.5, "learning rate (")])
def test_what_does_not_apply_is_no_difference(models, options, rate, absent):
    told, *_ = about_recipe(request(models, steps=200, resolution=512, options=options, learning_rate=rate))
    assert absent not in told.split("yours")[1]
    assert ("learning rate (0.0001 instead of 1)" in told) == (options.optimizer == "prodigy")


def test_previews_are_compared_with_the_recipe_of_the_model_that_samples(models, monkeypatch):
    other, found = tiny_models(seed=1)[0], recipes.recipe_of
    monkeypatch.setattr("comfyui_personalize.nodes.bridge.training.recipe_report.recipe_of", lambda model: replace(
        found(model), name="fast", cfg=1.0, sampling_steps=4) if model is other else found(model))
    preview = PreviewSettings(prompt="a sks dog", steps=4, cfg=7.0)
    told = about_recipe(request(models, sample_with=other, preview=preview))
    assert told[3] == ("pictures of fast: euler, normal, 4 steps, cfg 1, 512 pixels; "
                       "yours differ in cfg (7 instead of 1)")


def test_advice_for_a_distilled_model_is_told_until_another_model_samples(models, monkeypatch):
    found = recipes.recipe_of
    monkeypatch.setattr("comfyui_personalize.nodes.bridge.training.recipe_report.recipe_of",
                        lambda model: replace(found(model), advice="Distilled: train the base."))
    assert about_recipe(request(models))[-1] == "Stable Diffusion 1.5: Distilled: train the base."
    assert not any("Distilled" in line for line in about_recipe(request(models, sample_with=tiny_models(1)[0])))


def test_the_trainers_report_has_it_and_a_recipe_changes_no_key(models, own_recipe):
    before = make_plan(request(models), ()).key
    report = train(models)[6]
    assert RECIPE + "yours differ in resolution (64 instead of 512)" in report
    own_recipe(learning_rate=0.5)
    assert "recipe of mine: 512 pixels, learning rate 0.5" in train(models)[6]
    assert make_plan(request(models), ()).key == before


def test_a_file_that_cannot_be_used_is_a_warning_and_stops_no_run(models, own_recipe):
    own_recipe(rank=0)
    assert about_recipe(request(models)) == []
    (warning,) = warnings_about_recipes(request(models))
    assert warning.startswith("no recipe is used: recipe ") and "mine.json: rank: got 0" in warning
    assert "Warning: no recipe is used" in train(models)[6]
