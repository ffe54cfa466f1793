"""Priors that need no class images: on the class prompt, and behind the subject, the network stays what it was."""

from dataclasses import replace

import pytest
import torch
from base_predictions import assert_close, base_prediction, reference, single, step_of, without_pools
from tiny_unet import TinyDenoiser, photos, trainer, training_config, training_data

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import BasePrior, MaskedLoss, MaskedPrior, PriorPreservation
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.training.loss import SUBJECT

HALF = torch.zeros(1, 8, 8)
HALF[..., :4] = 1
ONES = torch.ones(1, 8, 8)
KEEP = (MaskedLoss(background_weight=0.5), MaskedPrior())


# The class prompt


def test_the_rows_are_the_subjects_own_under_their_class_prompts():
    data = without_pools(*photos(2, "dog"), *photos(2, "cat", caption="a tqz cat"))
    run = trainer(training_config(batch=4, objectives=[BasePrior()]), data)
    blocks = run._draw_rows(0)
    subject, prior = blocks[SUBJECT], blocks["base_prior"]
    assert torch.equal(prior.latents, subject.latents) and torch.equal(prior.noise, subject.noise)
    assert torch.equal(prior.index, subject.index) and prior.is_taught_by_base
    assert sorted(prior.prompts) == ["a cat", "a cat", "a dog", "a dog"]
    assert set(run.data.prompts()) >= {"a cat", "a dog"}


def test_loss_and_gradients_are_those_of_single_forwards():
    data, objectives = without_pools(), [BasePrior(weight=0.5)]

    def loss_of_row(run, blocks, row):
        prediction, noise = single(run, blocks, row, SUBJECT, "a photo of a sks dog")
        kept, _ = single(run, blocks, row, "base_prior", "a dog")
        base = base_prediction(run, blocks["base_prior"], row, "a dog")
        return (prediction - noise).square().mean() + 0.5 * (kept - base).square().mean()

    _, _, step, gradients = step_of(objectives, data)
    loss, expected = reference(objectives, data, loss_of_row, 2)
    assert step.loss == pytest.approx(loss, rel=1e-4) and step.terms["base_prior"] > 1e-3
    assert_close(gradients, expected)


def test_an_untrained_network_keeps_its_class_by_itself():
    _, _, plain, plain_gradients = step_of((), without_pools(), is_learned=False)
    _, _, step, gradients = step_of([BasePrior()], without_pools(), is_learned=False)
    assert step.terms["base_prior"] == pytest.approx(0, abs=1e-9)
    assert step.terms["subject"] == pytest.approx(plain.loss, rel=1e-5)
    assert_close(gradients, plain_gradients)


def test_class_images_and_the_base_model_work_together():
    run, blocks, step, _ = step_of([BasePrior(), PriorPreservation()], training_data())
    assert step.terms.keys() == {"subject", "base_prior", "prior_preservation"}
    assert not blocks["prior_preservation"].is_taught_by_base
    assert run.exposure().class_images.keys() == {"dog"}


def test_without_the_objective_that_uses_them_class_images_are_dropped():
    run = trainer(training_config(objectives=[BasePrior()]), training_data())
    assert run.data.class_latents == {} and run.data.class_prompts == {"dog": "a dog"}


# The whole caption


CAPTION = "a photo of sks, a sks dog, on a beach"


def captioned(caption=CAPTION):
    return without_pools(*(replace(one, identifier="sks") for one in photos(caption=caption)))


def test_the_caption_keeps_all_but_the_identifier():
    run = trainer(training_config(objectives=[BasePrior(prompt="caption")]), captioned())
    prior = run._draw_rows(0)["base_prior"]
    assert set(prior.prompts) == {"a photo of dog, a dog, on a beach"} and prior.is_taught_by_base
    assert "a dog" not in run.data.prompts() and run.data.class_prompts == {}


def test_under_captions_of_the_template_it_is_the_class_prompts_loss():
    template = captioned("a sks dog")
    _, _, caption, gradients = step_of([BasePrior(prompt="caption")], template)
    _, _, plain, expected = step_of([BasePrior()], template)
    assert caption.terms == plain.terms and caption.terms["base_prior"] > 1e-3
    assert all(map(torch.equal, gradients, expected))


def test_under_other_captions_it_is_another_loss():
    _, _, caption, _ = step_of([BasePrior(prompt="caption")], captioned())
    _, _, plain, _ = step_of([BasePrior()], captioned())
    assert caption.terms["subject"] == plain.terms["subject"]
    assert caption.terms["base_prior"] != pytest.approx(plain.terms["base_prior"], rel=1e-3)


def test_learned_contexts_leave_the_captions_of_the_class_alone():
    objectives = [BasePrior(prompt="caption"), LearnedContexts()]
    run = trainer(training_config(objectives=objectives), captioned())
    blocks = run._draw_rows(0)
    assert set(blocks["base_prior"].prompts) == {"a photo of dog, a dog, on a beach"}
    assert all("learnedprefix" in prompt for prompt in blocks[SUBJECT].prompts)


def test_a_caption_that_would_stay_the_subjects_own_is_refused():
    with pytest.raises(InputError, match="captions: got 'a dog' without its identifier"):
        BasePrior(prompt="caption").prepare(captioned("a dog"))
    with pytest.raises(InputError, match="class_noun: got an empty identifier or class noun"):
        BasePrior(prompt="caption").prepare(without_pools())


def test_the_prompt_is_in_the_key_only_where_it_is_not_the_class():
    assert BasePrior().to_dict() == {"kind": "base_prior", "weight": 1.0}
    assert BasePrior(prompt="caption").to_dict()["prompt"] == "caption"
    with pytest.raises(InputError, match="prior prompt: got 'noun'"):
        BasePrior(prompt="noun")


@pytest.mark.parametrize("objective", [BasePrior, PriorPreservation])
def test_a_weight_of_zero_is_refused(objective):
    with pytest.raises(InputError, match="prior weight: got 0"):
        objective(weight=0)


# The background


def test_with_a_full_mask_the_masked_prior_is_eq_1():
    _, _, plain, plain_gradients = step_of((), without_pools(*photos(mask=ONES)))
    _, _, step, gradients = step_of((MaskedLoss(), MaskedPrior()), without_pools(*photos(mask=ONES)))
    assert step.loss == pytest.approx(plain.loss, rel=1e-6)
    assert_close(gradients, plain_gradients)


def test_outside_the_mask_the_target_is_the_base_networks_prediction():
    data = without_pools(*photos(mask=HALF))

    def loss_of_row(run, blocks, row):
        prediction, noise = single(run, blocks, row, SUBJECT, "a photo of a sks dog")
        base = base_prediction(run, blocks[SUBJECT], row, "a photo of a sks dog")
        inside = (prediction - noise)[..., :4].square().mean() * 0.5
        outside = (prediction - base)[..., 4:].square().mean() * 0.5
        return (inside + 0.5 * outside) / 0.75  # weights 1 and 0.5, divided by their mean

    _, _, step, gradients = step_of(KEEP, data)
    loss, expected = reference(KEEP, data, loss_of_row, 2)
    assert step.loss == pytest.approx(loss, rel=1e-4)
    assert_close(gradients, expected)


def test_an_untrained_background_costs_nothing():
    objectives = (MaskedLoss(background_weight=1.0, normalise_floor=1.0), MaskedPrior())
    _, blocks, step, _ = step_of(objectives, without_pools(*photos(mask=HALF)), is_learned=False)
    _, _, ignoring, _ = step_of([MaskedLoss(normalise_floor=1.0)], without_pools(*photos(mask=HALF)), is_learned=False)
    assert step.loss == pytest.approx(ignoring.loss, rel=1e-5) and blocks.keys() == {SUBJECT}


def test_only_adapters_get_gradients_and_the_base_is_left_as_it_was():
    denoiser = TinyDenoiser()
    before = {name: value.clone() for name, value in denoiser.module.state_dict().items()}
    objectives = (*KEEP, BasePrior())
    with trainer(training_config(objectives=objectives), without_pools(*photos(mask=HALF)), denoiser) as run:
        list(run.steps())
        trained = {id(parameter) for parameter in run.updates.parameters()}
        others = [parameter for parameter in denoiser.module.parameters() if id(parameter) not in trained]
        assert others and all(parameter.grad is None for parameter in others)
    assert all(torch.equal(value, before[name]) for name, value in denoiser.module.state_dict().items())


def test_the_masked_prior_wants_masks():
    with pytest.raises(InputError, match="no mask for photo 1"):
        MaskedPrior().check(without_pools())
    with pytest.raises(InputError, match="no mask for photo 2"):
        MaskedPrior().check(without_pools(*photos(1, mask=ONES), *(replace(one) for one in photos(1))))
