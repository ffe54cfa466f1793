"""Blank-prompt preservation: the empty prompt keeps the base prediction, in the steps that ask for it."""

from dataclasses import replace

import pytest
import torch
from base_predictions import assert_close, base_prediction, reference, single, step_of, without_pools
from tiny_unet import TinyDenoiser, TinyTextEncoder, photos, trainer, training_config

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import BasePrior, BlankPromptPreservation, prepared_data
from comfyui_personalize.core.training.loss import SUBJECT


def test_the_rows_are_the_subjects_own_under_the_empty_prompt():
    blocks = trainer(training_config(objectives=[BlankPromptPreservation()]), without_pools())._draw_rows(0)
    subject, blank = blocks[SUBJECT], blocks["blank_prompt"]
    assert torch.equal(blank.latents, subject.latents) and torch.equal(blank.noise, subject.noise)
    assert torch.equal(blank.index, subject.index) and blank.prompts == ("", "") and blank.is_taught_by_base


def test_loss_and_gradients_are_those_of_single_forwards():
    def loss_of_row(run, blocks, row):
        prediction, noise = single(run, blocks, row, SUBJECT, "a photo of a sks dog")
        kept, _ = single(run, blocks, row, "blank_prompt", "")
        base = base_prediction(run, blocks["blank_prompt"], row, "")
        return (prediction - noise).square().mean() + 0.5 * (kept - base).square().mean()

    objectives = [BlankPromptPreservation(weight=0.5)]
    _, _, step, gradients = step_of(objectives, without_pools())
    loss, expected = reference(objectives, without_pools(), loss_of_row, 2)
    assert step.loss == pytest.approx(loss, rel=1e-4) and step.terms["blank_prompt"] > 1e-3
    assert_close(gradients, expected)


def test_an_untrained_network_keeps_the_empty_prompt_by_itself():
    _, _, step, _ = step_of([BlankPromptPreservation()], without_pools(), is_learned=False)
    assert step.terms["blank_prompt"] == pytest.approx(0, abs=1e-9)


def test_the_probability_is_the_share_of_batches_with_the_term():
    run = trainer(training_config(objectives=[BlankPromptPreservation(probability=0.25)]), without_pools())
    drawn = ["blank_prompt" in run._draw_rows(number) for number in range(400)]
    assert 70 <= sum(drawn) <= 130
    assert drawn[:20] == ["blank_prompt" in run._draw_rows(number) for number in range(20)]


def test_a_step_without_the_term_costs_nothing_and_one_with_it_one_forward_more():
    objectives = [BlankPromptPreservation(probability=0.5)]
    denoiser = TinyDenoiser()
    with trainer(training_config(steps=6, objectives=objectives), without_pools(), denoiser) as run:
        for step in run.steps():
            has_term = "blank_prompt" in run._draw_rows(step.step - 1)
            assert denoiser.rows == ([2, 4] if has_term else [2])
            assert ("blank_prompt" in step.terms) == has_term
            denoiser.rows.clear()


def test_base_predictions_of_several_objectives_are_one_forward():
    denoiser = TinyDenoiser()
    objectives = [BlankPromptPreservation(), BasePrior()]
    with trainer(training_config(objectives=objectives), without_pools(), denoiser) as run:
        next(run.steps())
    assert denoiser.rows == [4, 6]


def test_over_accumulated_batches_the_term_is_the_mean_with_zeros_where_it_was_not_drawn():
    objectives = [BlankPromptPreservation(probability=0.25)]

    def draws(run):
        return sum("blank_prompt" in run._draw_rows(number) for number in range(4))

    run, _, step, _ = step_of(objectives, without_pools(), accumulation=4, batch=1)
    assert 0 < draws(run) < 4 and step.loss == pytest.approx(sum(step.terms.values()))
    whole, _, always, _ = step_of([BlankPromptPreservation()], without_pools(), accumulation=4, batch=1)
    assert draws(whole) == 4 and step.terms["subject"] == pytest.approx(always.terms["subject"], rel=1e-6)
    assert 0 < step.terms["blank_prompt"] < always.terms["blank_prompt"]


def test_the_empty_prompt_is_encoded_once():
    encoder = TinyTextEncoder()
    with trainer(training_config(objectives=[BlankPromptPreservation()]), without_pools(*photos(2)),
                 text_encoder=encoder) as run:
        list(run.steps())
    assert encoder.encoded[""] == 1


def test_dropped_captions_which_teach_the_photos_to_the_empty_prompt_are_refused():
    dropped = without_pools(*(replace(one, caption_dropout=0.1) for one in photos()))
    with pytest.raises(InputError, match="caption_dropout: got dropped captions with blank-prompt preservation"):
        prepared_data([BlankPromptPreservation()], dropped)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"weight": 0}, "blank-prompt weight: got 0"), ({"probability": 0}, "probability: got 0, expected above 0"),
    ({"probability": 1.5}, "probability: got 1.5")])
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        BlankPromptPreservation(**wrong)
