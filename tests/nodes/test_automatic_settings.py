"""0 and "auto" on the nodes follow the loaded model's recipe; the same numbers by hand are the same run."""

from __future__ import annotations

import json

import pytest
from run_node import run_node
from trainer_rig import photos, subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.model import automatic
from comfyui_personalize.nodes.bridge.queue.queue_checks import ZeroOrWholeSteps
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.personalize_trainer import PersonalizeTrainer
from comfyui_personalize.nodes.prior_sample_gen import PriorSampleGen
from comfyui_personalize.nodes.training_options import TrainingOptionsNode
from comfyui_personalize.nodes.training_preview import TrainingPreview

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
VALUES = {"resolution": 64, "learning_rate": 2e-3, "steps_per_photo": 2, "rank": 2, "batch": 2,
          "targets": "cross_attention_kv", "sampler": "euler", "scheduler": "simple", "sampling_steps": 2, "cfg": 1.5,
          "size": 64}
AUTO = {"steps": 0, "learning_rate": 0.0, "batch": 0, "resolution": 0}


@pytest.fixture
def tiny_recipe(models, own_recipe):
    """A recipe of the user's, small enough for a test."""
    return own_recipe([type(models[0].model.model_config).__name__], "tiny", **VALUES)


def test_numbers_that_are_0_are_the_recipes_and_the_report_says_each_with_its_reason(models, tiny_recipe):
    _, _, _, losses, _, result, report, _ = train(models, **AUTO)
    config = result.metadata["config"]
    assert len(losses["loss"]) == config["steps"] == 2
    assert (config["resolution"], config["learning_rate"], config["batch"]) == (64, 2e-3, 2)
    adapter = config["options"]["adapter"]
    assert (adapter["rank"], adapter["alpha"], adapter["targets"]) == (2, 2, "cross_attention_kv")
    assert "\n  resolution 64: recipe of tiny; " in report and "\n  learning rate 0.002: recipe of tiny; " in report
    assert "\n  steps 2: 2 per photo, 2 photos, 2 per step: recipe of tiny; " in report
    assert "yours are the same" in report


def test_the_same_numbers_by_hand_load_the_same_run(models, tiny_recipe):
    train(models, **AUTO)
    options = TrainingOptions(adapter=AdapterConfig(rank=2, alpha=2, targets="cross_attention_kv"))
    report = train(models, steps=2, learning_rate=2e-3, batch=2, resolution=64, options=options)[6]
    assert "loaded" in report and "chosen for you" not in report


def test_options_stay_but_for_open_targets_and_a_chosen_rate_keeps_the_defaults_of_before(models, tiny_recipe):
    options = run_node(TrainingOptionsNode, kind="lora", rank=4, alpha=4.0, targets="auto", train_unet=True,
                       text_encoder_rate=0.0, block_ranks="", target_pattern="", text_encoder_kind="same")[0]
    found = automatic.settle_training(models[0], 2, options, {**AUTO, "learning_rate": 1e-4})
    assert (found.options.adapter.rank, found.options.adapter.targets) == (4, "cross_attention_kv")
    assert found.values["learning_rate"] == 1e-4
    plain = automatic.settle_training(models[0], 2, None, {**AUTO, "learning_rate": 1e-4})
    assert plain.options == TrainingOptions()


def test_where_nothing_is_automatic_no_recipe_is_looked_for(models, monkeypatch):
    monkeypatch.setattr(automatic, "recipe_of", None)
    given = {"steps": 1, "learning_rate": 1e-4, "batch": 1, "resolution": 64}
    assert automatic.settle_training(models[0], 2, None, given).values == given
    preview = PreviewSettings(prompt="a sks dog")
    assert automatic.settle_preview(models[0], preview) == (preview, [])
    chosen = {"count": 1, "size": 64, "sampler": "euler", "scheduler": "normal", "sampling_steps": 1, "cfg": 1.0}
    assert automatic.settle_class_images(models[0], **chosen) == (chosen, [])


def test_a_recipe_of_the_users_that_cannot_be_used_is_refused_where_it_is_asked_for(models, tiny_recipe):
    tiny_recipe.write_text("{")
    with pytest.raises(InputError, match="recipe"):
        train(models, **AUTO)


def test_a_preview_samples_as_the_recipe_says(models, tiny_recipe):
    preview = run_node(TrainingPreview, prompt="a sks dog", sampler="auto", scheduler="auto", steps=0, cfg=0.0, seed=0,
                       every=100, negative_prompt="")[0]
    found, told = automatic.settle_preview(models[0], preview)
    assert (found.sampler, found.scheduler, found.steps, found.cfg) == ("euler", "simple", 2, 1.5)
    assert told[0].startswith("of the preview, sampler euler: recipe of tiny; ") and len(told) == 4
    report = train(models, steps=1, preview=preview, subject=subjects(photos=photos(1)))[6]
    assert "of the preview, cfg 1.5: " in report


def test_class_images_are_sampled_as_the_recipe_says(models, tiny_recipe):
    (pool,), _ = run_node(PriorSampleGen, model=models[0], clip=models[1], vae=models[2], class_noun="dog", count=2,
                          size=0, sampler="auto", scheduler="auto", steps=0, cfg=0.0, seed=0, batch=2, shown=1)
    (by_hand,), _ = run_node(PriorSampleGen, model=models[0], clip=models[1], vae=models[2], class_noun="dog", count=2,
                             size=64, sampler="euler", scheduler="simple", steps=2, cfg=1.5, seed=0, batch=2, shown=1)
    assert pool.key == by_hand.key and pool.size == 64
    values, told = automatic.settle_class_images(models[0], count=0, size=64, sampler="euler", scheduler="simple",
                                                 sampling_steps=2, cfg=1.5)
    assert values["count"] == 200 and told == ["count 200: published: diffusers examples/dreambooth/README.md"]


@pytest.mark.parametrize(("value", "is_refused"), [(0, False), (64, False), (72, False), (8, True), (63, True),
                                                   (65, True), (-8, True)])
def test_a_size_is_0_or_whole_steps_from_64_on(value, is_refused):
    least = ZeroOrWholeSteps(64, 8)
    assert (least > value) == is_refused and json.dumps(least) == "0"
    assert f"{least}" == "64 (0 is automatic), or no multiple of 8"


def test_new_nodes_begin_automatic():
    defaults = {entry.id: entry.default for entry in PersonalizeTrainer.define_schema().inputs
                if hasattr(entry, "default")}
    assert {name: defaults[name] for name in AUTO} == AUTO
    for node, names in ((PriorSampleGen, ("sampler", "scheduler")), (TrainingPreview, ("sampler", "scheduler")),
                        (TrainingOptionsNode, ("targets",))):
        choices = {entry.id: entry for entry in node.define_schema().inputs}
        assert all(choices[name].options[0] == choices[name].default == "auto" for name in names)
