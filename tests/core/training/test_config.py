"""Every field of a run is validated, saved and restored."""

import json
from dataclasses import fields

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig
from comfyui_personalize.core.objectives import (
    OBJECTIVES,
    BasePrior,
    BlankPromptPreservation,
    LossWeighting,
    MaskedLoss,
    MaskedPrior,
    ObjectSpecificLoss,
    PriorPreservation,
    combine,
    objectives_from_dicts,
)
from comfyui_personalize.core.objectives.class_characterizing import ClassCharacterizing
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.objectives.super_resolution import SuperResolution
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.validation import ValidationConfig

# A value other than the default for every field there is.
ADAPTER = AdapterConfig(kind="lora", rank=3, alpha=5.5, targets="cross_attention_kv", block_ranks="middle=2")
OPTIONS = TrainingOptions(
    adapter=ADAPTER,
    trains_denoiser=False,
    text_encoder_rate=1e-5,
    text_adapter=AdapterConfig(kind="full", targets="all"),
    accumulation=3,
    optimizer="sgd",
    weight_decay=0.1,
    lr_schedule="cosine",
    warmup_steps=7,
    lr_cycles=2,
    lr_power=1.5,
    max_grad_norm=0.5,
    ema_decay=0.9,
    precision="bf16",
    gradient_checkpointing="on",
    save_every=11, keep_every=12, detach_begin_token=True, min_rank=2,
)
WORD = TokenVectorsConfig(word="sks", count=3, start="random", start_text="dog", std=0.1, learning_rate=1e-3,
                          stop_at=0.5, norm="fixed", is_context=True, digest="abc")
VALIDATION = ValidationConfig(every=7, draws=3, best_by="clip_i", patience=2, pictures=5)
OBJECTIVES_SET = (
    PriorPreservation(weight=0.7), MaskedLoss(background_weight=0.2, normalise_floor=0.3, dilation=4),
    ObjectSpecificLoss(weight=0.9, dilation=4, objects_per_step=3), BasePrior(weight=0.6, prompt="caption"),
    MaskedPrior(dilation=4), BlankPromptPreservation(weight=0.8, probability=0.3),
    LossWeighting(weighting="min_snr", snr_gamma=4.0, loss="huber", huber_c=0.2, noise_offset=0.05,
                  levels="logit_normal", logit_mean=0.3, logit_std=0.8, shift=3.0),
    LearnedContexts(prefix=3, suffix=2, identifier_vectors=1, start="random", std=0.1, rate_factor=5.0,
                    identifier_rate_factor=1.0, prefix_words="the", suffix_words="on", identifier_words="ktn"),
    ClassCharacterizing(weight=0.4, probability=0.5), SuperResolution(variance=1e-4, level=3, crop=256))
CONFIG = TrainingConfig(steps=9, learning_rate=3e-4, batch=4, resolution=256, seed=8, options=OPTIONS,
                        objectives=OBJECTIVES_SET, token_vectors=(WORD,), validation=VALIDATION)
ALL = [ADAPTER, OPTIONS, WORD, VALIDATION, CONFIG, *OBJECTIVES_SET]


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config).__name__)
def test_the_restored_example_differs_from_the_default_in_every_field(config):
    for field in fields(config):
        if field.name != "kind":
            assert getattr(config, field.name) != field.default, field.name


def test_a_config_restored_from_json_equals_the_original():
    assert TrainingConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    assert TrainingConfig.from_dict(TrainingConfig(steps=1).to_dict()) == TrainingConfig(steps=1)


def test_every_objective_can_be_restored():
    assert set(OBJECTIVES) == {objective.kind for objective in OBJECTIVES_SET}
    assert objectives_from_dicts([objective.to_dict() for objective in OBJECTIVES_SET]) == combine(
        OBJECTIVES_SET
    )


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match="'unheard_of', expected one of base_prior"):
        objectives_from_dicts([{"kind": "unheard_of"}])


def test_the_order_of_objectives_does_not_matter_and_twins_are_refused():
    assert combine(OBJECTIVES_SET) == combine(OBJECTIVES_SET[::-1])
    with pytest.raises(InputError, match="prior_preservation twice"):
        combine([PriorPreservation(), PriorPreservation(weight=2)])


def changed(**options):
    return TrainingConfig(steps=9, options=TrainingOptions(**options)).key_fields()


def test_the_key_leaves_out_what_changes_no_weight():
    assert TrainingConfig(steps=9).key_fields() == TrainingConfig(steps=10).key_fields()
    assert changed(save_every=3) == changed(keep_every=3) == changed(gradient_checkpointing="on") == changed()
    assert changed(max_grad_norm=2) != changed() != TrainingConfig(steps=9, seed=1).key_fields()


def test_a_file_names_the_steps_that_are_kept_only_where_some_are():
    assert "keep_every" not in TrainingConfig(steps=9).to_dict()["options"]
    assert TrainingConfig(steps=9, options=TrainingOptions(keep_every=3)).to_dict()["options"]["keep_every"] == 3


def test_steps_are_in_the_key_where_the_schedule_looks_at_the_end():
    cosine = TrainingOptions(lr_schedule="cosine")
    assert (
        TrainingConfig(steps=9, options=cosine).key_fields()
        != TrainingConfig(steps=10, options=cosine).key_fields()
    )


@pytest.mark.parametrize(("wrong", "message"), [
    ({"steps": 0}, "steps: got 0, expected 1 or more"),
    ({"batch": 0}, "batch: got 0"),
    ({"resolution": 100}, "resolution: got 100, expected a multiple of 8 pixels. Use 96."),
    ({"resolution": 8}, "resolution: got 8"),
    ({"resolution": 100000}, "resolution: got 100000, expected at most 2048 pixels"),
    ({"learning_rate": 0}, "learning_rate: got 0"),
    ({"learning_rate": float("nan")}, "learning_rate: got nan"),
])
def test_a_run_refuses(wrong, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**{"steps": 1, **wrong})


@pytest.mark.parametrize(("wrong", "message"), [
    ({"optimizer": "lion"}, "optimizer: got 'lion', expected one of auto, adamw, adamw8bit, adafactor, prodigy, adam"),
    ({"lr_schedule": "x"}, "lr_schedule"), ({"precision": "fp8"}, "precision"),
    ({"gradient_checkpointing": "maybe"}, "gradient_checkpointing"),
    ({"text_encoder_rate": -1}, "text_encoder_rate: got -1"), ({"accumulation": 0}, "accumulation: got 0"),
    ({"warmup_steps": -1}, "warmup_steps: got -1"), ({"max_grad_norm": -1}, "max_grad_norm: got -1"),
    ({"weight_decay": -1}, "weight_decay: got -1"), ({"lr_cycles": 0}, "lr_cycles: got 0"),
    ({"lr_power": 0}, "lr_power: got 0"), ({"min_rank": -1}, "min_rank: got -1"),
    ({"min_rank": 16}, "min_rank: got 16, expected less than the rank, 16"),
    ({"save_every": -1}, "save_every: got -1"), ({"keep_every": -1}, "keep_every: got -1"),
    ({"warmup_steps": 5}, "Choose constant_with_warmup"),
])
def test_options_refuse(wrong, message):
    with pytest.raises(InputError, match=message):
        TrainingOptions(**wrong)


@pytest.mark.parametrize(("objective", "wrong", "message"), [
    (PriorPreservation, {"weight": 0}, "prior weight: got 0"),
    (MaskedLoss, {"background_weight": 2}, "background_weight: got 2"),
    (MaskedLoss, {"normalise_floor": 0}, "normalise_floor: got 0"),
    (MaskedLoss, {"dilation": -1}, "dilation: got -1"),
    (ObjectSpecificLoss, {"weight": -1}, "object-specific weight: got -1"),
    (ObjectSpecificLoss, {"dilation": -1}, "dilation: got -1"), (MaskedPrior, {"dilation": -1}, "dilation: got -1"),
])
def test_an_objective_refuses(objective, wrong, message):
    with pytest.raises(InputError, match=message):
        objective(**wrong)
