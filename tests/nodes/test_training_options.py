"""Widgets become options, and every value of every combo trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import comfy.model_management
import pytest
from families import family_models
from tiny_model import tiny_models
from trainer_rig import train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import KINDS, AdapterConfig
from comfyui_personalize.core.training.measured_presets import MEASURED
from comfyui_personalize.core.training.presets import PRESETS
from comfyui_personalize.nodes.method_preset import MethodPreset
from comfyui_personalize.nodes.training_options import TrainingOptionsNode

pytestmark = pytest.mark.usefixtures("inference_mode", "store")


def options(**changes):
    defaults = {entry.id: entry.default for entry in TrainingOptionsNode.define_schema().inputs}
    return TrainingOptionsNode.execute(**defaults | changes).result[0]


def combo_values():
    """Every value of every combo."""
    for entry in TrainingOptionsNode.define_schema().inputs:
        for value in getattr(entry, "options", None) or ():
            yield entry.id, value


def test_the_widgets_are_the_configs_fields():
    made = options(kind="dora", rank=3, alpha=2.0, block_ranks=" middle=8 ", targets="all", train_unet=False,
                   text_encoder_rate=1e-5, lr_schedule="polynomial", lr_power=1.5, weight_decay=0.1)
    assert made.adapter == AdapterConfig(kind="dora", rank=3, alpha=2.0, targets="all", block_ranks="middle=8")
    assert not made.trains_denoiser and (made.lr_power, made.weight_decay) == (1.5, 0.1)


def test_the_text_encoder_may_learn_in_another_way():
    assert options(kind="loha").text_adapter is None
    assert options(kind="full", text_encoder_kind="lora").text_adapter == AdapterConfig(targets="auto")
    assert options(text_encoder_kind="full").text_adapter == AdapterConfig(kind="full", targets="all")


def test_an_unreadable_block_rank_is_refused_by_the_node():
    with pytest.raises(InputError, match="block_ranks: got 'middle'"):
        options(block_ranks="middle")


@pytest.mark.parametrize("method", PRESETS)
def test_a_preset_is_what_the_options_node_gives(method):
    made, rate, steps, notes = MethodPreset.execute(method, detach_begin_token=True).result
    preset = PRESETS[method]
    text = preset.options.adapter
    assert made == preset.options == options(
        detach_begin_token=method in ("custom_diffusion", "ico"), kind=text.kind, rank=text.rank,
        alpha=text.alpha, targets=text.targets,
        train_unet=preset.options.trains_denoiser, text_encoder_rate=preset.options.text_encoder_rate)
    assert (rate, steps) == (preset.learning_rate, preset.steps) and preset.title in notes


@pytest.mark.parametrize("method", PRESETS)
def test_a_preset_in_a_prompt_from_before_the_begin_tokens_input_means_what_it_meant(method):
    made, *_ = MethodPreset.execute(method).result
    assert not made.detach_begin_token and replace(PRESETS[method].options, detach_begin_token=False) == made


@pytest.mark.parametrize("method", PRESETS)
def test_a_measured_preset_names_a_row_of_the_evidence(method):
    made, rate, steps, notes = MethodPreset.execute(method, "measured", detach_begin_token=True).result
    preset = MEASURED[method]
    assert (made, rate, steps) == (preset.options, preset.learning_rate, preset.steps)
    evidence = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert f"| {preset.evidence} |" in evidence and preset.evidence in notes


def test_the_preset_node_says_what_its_values_are():
    method, settings, begin = MethodPreset.define_schema().inputs
    assert begin.default is True and begin.optional
    assert settings.options == ["published", "measured"] and all(word in settings.tooltip for word in settings.options)
    assert all(name in method.tooltip for name in PRESETS) and "(default)" in method.tooltip


@pytest.mark.parametrize("kind", ["dora", "lokr", "oft"])
def test_a_kind_trains_by_the_node_and_says_who_reads_it(kind):
    outputs = train(tiny_models(), options=options(kind=kind, rank=4))
    programs = outputs[5].metadata["readers"]
    assert "LoraLoader" in programs and "diffusers" not in programs


def test_a_begin_token_is_not_detached_where_image_and_text_attend_jointly(monkeypatch):
    models = family_models("sd3")
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match="detach_begin_token: got .*, which has no cross-attention"):
        train(models, options=options(detach_begin_token=True))


def test_nothing_that_trains_is_refused_before_a_model_is_loaded(monkeypatch):
    models = tiny_models()
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match="training: got nothing that trains, expected a network or token vectors"):
        train(models, options=options(train_unet=False))


@pytest.mark.full
@pytest.mark.parametrize(("widget", "value"), list(combo_values()))
def test_every_value_of_every_combo_trains(widget, value):
    if value in ("adamw8bit", "prodigy"):  # optional packages
        with pytest.raises(InputError, match="optimizer: got"):
            train(tiny_models(), options=options(**{widget: value}))
        return
    extra = {"text_encoder_rate": 1e-4} if widget == "text_encoder_kind" else {}
    assert len(train(tiny_models(), options=options(**{widget: value, "rank": 4} | extra))[3]["loss"]) == 3


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_in_the_text_encoder_alone(kind):
    outputs = train(tiny_models(), options=options(kind=kind, rank=4, train_unet=False, text_encoder_rate=1e-4))
    assert all("lora_te" in name or "text_encoders" in name for name in outputs[2])
