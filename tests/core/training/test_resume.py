"""A run that was killed after any step ends with bitwise the tensors of one that was not."""

import json

import pytest
import torch
from tiny_unet import photos, same_bits, trainer, training_config, training_data

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import MaskedLoss, ObjectSpecificLoss, PriorPreservation

EVERYTHING = (PriorPreservation(), MaskedLoss(), ObjectSpecificLoss())
DATA = training_data(photos(mask=torch.ones(1, 8, 8)))


def run_to_end(config, state=None, stop_after=None):
    """The state after `stop_after` steps (or all), through JSON as the run store keeps it."""
    with trainer(config, DATA) as run:
        if state:
            run.load_state(*state)
        for step in run.steps():
            if step.step == stop_after:
                break
        tensors, meta = run.state()
        return tensors, json.loads(json.dumps(meta))


def assert_same_state(first, second):
    assert same_bits(first[0], second[0]) and first[1] == second[1]


def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator_did():
    config = training_config(steps=3, objectives=EVERYTHING)
    first = run_to_end(config)
    torch.manual_seed(12345)
    assert_same_state(run_to_end(config), first)


def test_another_seed_gives_another_result():
    first, second = run_to_end(training_config(seed=0)), run_to_end(training_config(seed=1))
    assert first[1]["losses"] != second[1]["losses"]


@pytest.mark.parametrize("stop_after", [0, 1, 3, 4])
@pytest.mark.parametrize("options", [
    {"objectives": EVERYTHING}, {"text_encoder_rate": 1e-4, "accumulation": 2, "lr_schedule": "cosine"},
    {"optimizer": "sgd", "lr_schedule": "constant_with_warmup", "warmup_steps": 2}, {"optimizer": "adam"},
], ids=["objectives", "text encoder, accumulation and cosine", "sgd with warm-up", "adam"])
def test_a_killed_run_ends_with_the_same_bits(stop_after, options):
    config = training_config(steps=4, **options)
    if stop_after:
        state = run_to_end(config, stop_after=stop_after)
    else:
        with trainer(config, DATA) as run:
            state = run.state()
    assert state[1]["step"] == stop_after
    assert_same_state(run_to_end(config, state), run_to_end(config))


def test_a_run_killed_twice_ends_with_the_same_bits():
    config = training_config(steps=4)
    once = run_to_end(config, stop_after=1)
    twice = run_to_end(config, once, stop_after=3)
    assert_same_state(run_to_end(config, twice), run_to_end(config))


@pytest.mark.parametrize("options", [{}, {"lr_schedule": "constant_with_warmup", "warmup_steps": 3}], ids=str)
def test_more_steps_extend_a_finished_run_to_a_longer_one(options):
    short = run_to_end(training_config(steps=2, **options))
    longer = training_config(steps=5, **options)
    assert_same_state(run_to_end(longer, short), run_to_end(longer))


def test_a_finished_run_takes_no_more_steps():
    config = training_config(steps=2)
    state = run_to_end(config)
    with trainer(config, DATA) as run:
        run.load_state(*state)
        assert list(run.steps()) == [] and run.losses == state[1]["losses"] and len(run.losses) == 2


def test_a_saved_state_is_not_changed_by_later_steps():
    with trainer(training_config(steps=3), DATA) as run:
        steps = run.steps()
        next(steps)
        tensors, meta = run.state()
        copies = {name: value.clone() for name, value in tensors.items()}
        list(steps)
        assert same_bits(tensors, copies) and meta["step"] == 1 and len(meta["losses"]) == 1


def test_the_state_of_another_rank_is_refused():
    state = run_to_end(training_config(steps=1, rank=2))
    with (
        trainer(training_config(rank=4), DATA) as run,
        pytest.raises(InputError, match="other layers or ranks"),
    ):
        run.load_state(*state)
