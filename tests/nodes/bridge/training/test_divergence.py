"""A rate that destroys the model is told while it trains, in the report, and again after a resume and a load."""

from __future__ import annotations

import logging

import comfy.model_management
import pytest
from trainer_rig import CancelAt, train, use_store

from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.store.files import read_tensors, write_tensors
from comfyui_personalize.core.training.config import TrainingOptions

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
ADAPTER = AdapterConfig(rank=4, alpha=4.0, targets="all")
DESTRUCTIVE = {"learning_rate": 0.1, "options": TrainingOptions(adapter=ADAPTER)}
"""The random model is above the loss of zeros from the start, and never rises to twice that."""


@pytest.fixture
def any_rise(monkeypatch):
    """Whatever is above the loss of zeros counts, as for a model that knows something."""
    monkeypatch.setattr("comfyui_personalize.core.training.divergence.RISE", 0.0)


def told(outputs: tuple) -> list[str]:
    """The report's lines on a loss that rose."""
    return [line for line in outputs[6].splitlines() if "the loss had risen" in line]


@pytest.mark.usefixtures("any_rise")
def test_it_is_told_while_it_trains_once_and_in_the_report(models, caplog):
    with caplog.at_level(logging.WARNING):
        (line,) = told(train(models, steps=13, **DESTRUCTIVE))
    assert line.startswith("Warning: by step 10 the loss had risen to") and "Lower the learning rate (0.1)" in line
    assert [record.message for record in caplog.records if "had risen" in record.message] == [line[len("Warning: "):]]


@pytest.mark.usefixtures("any_rise")
def test_a_resumed_run_says_the_same_as_a_whole_one(models, tmp_path, monkeypatch):
    whole = told(train(models, steps=14, **DESTRUCTIVE))
    use_store(tmp_path / "parts", monkeypatch)
    assert told(train(models, steps=5, **DESTRUCTIVE)) == []
    for steps in (11, 14):
        assert told(train(models, steps=steps, **DESTRUCTIVE)) == whole


@pytest.mark.usefixtures("any_rise")
def test_a_cancelled_run_says_the_same(models, tmp_path, monkeypatch):
    whole = told(train(models, steps=13, **DESTRUCTIVE))
    use_store(tmp_path / "cancelled", monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(comfy.model_management.InterruptProcessingException):
        CancelAt(patch, 12)
        train(models, steps=13, **DESTRUCTIVE)
    assert told(train(models, steps=13, **DESTRUCTIVE)) == whole


@pytest.mark.usefixtures("any_rise")
def test_a_loaded_run_says_the_same(models):
    whole = told(train(models, steps=12, **DESTRUCTIVE))
    again = train(models, steps=12, **DESTRUCTIVE)
    assert "nothing to train" in again[6] and told(again) == whole != []


def test_a_healthy_run_says_nothing(models):
    assert told(train(models, steps=15)) == []


@pytest.mark.usefixtures("any_rise")
def test_a_state_of_a_version_that_did_not_keep_the_loss_of_zeros_loads_and_goes_on(models, store):
    (line,) = told(train(models, steps=12, **DESTRUCTIVE))
    (state,) = store.rglob("state.safetensors")
    tensors, metadata = read_tensors(state)
    assert metadata["state"].pop("loss_of_zeros") == pytest.approx(1, rel=0.1)
    write_tensors(state, tensors, metadata)
    assert told(train(models, steps=12, **DESTRUCTIVE)) == []
    assert told(train(models, steps=13, **DESTRUCTIVE)) == [line]


def test_layers_that_were_changed_beyond_their_size_are_told_once_and_again_when_the_run_is_loaded(models, caplog):
    with caplog.at_level(logging.WARNING):
        first = train(models, steps=20, **DESTRUCTIVE)
    lines = [line for line in first[6].splitlines() if "changed by" in line]
    assert len(lines) == 1 and "Lower the learning rate (0.1)" in lines[0]
    assert len([record for record in caplog.records if "changed by" in record.message]) == 1
    assert [line for line in train(models, steps=20, **DESTRUCTIVE)[6].splitlines() if "changed by" in line] == lines


def test_a_usual_rate_changes_no_layer_beyond_its_size(models):
    assert "changed by" not in train(models, steps=20, learning_rate=1e-3, run_name="usual")[6]
