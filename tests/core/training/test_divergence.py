"""Learning that went wrong is seen in the losses alone, and noise is not taken for it."""

import random

import pytest
import torch
from tiny_unet import TinyDenoiser, photos, schedule, trainer, training_config, training_data

from comfyui_personalize.core.objectives import BasePrior, MaskedPrior, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.training.divergence import LARGEST_CHANGE, WINDOW, divergence, explosion, is_diverged

DESTROYED = [0.385, 5.1, 14.2, 23.4, 19.0, 16.3, 11.8, 9.2, 8.1, 7.7, 6.9, 6.1, 5.4, 5.0, 4.6, 4.2, 4.0, 3.9, 3.8, 3.8]
"""A LoRA at a rate of 0.1; it ends well above the start."""


def healthy(seed, steps=2000):
    """Losses of eq. 1 at batch 1: those of noise levels between 0.002 and 1, so that the first may be far below the
    mean, falling to a half."""
    generator = random.Random(seed)
    return [generator.uniform(0.05, 1.0) ** 2 * (1 - 0.5 * step / steps) for step in range(steps)]


def test_a_rate_that_destroys_the_model_is_told_with_what_to_do():
    told = divergence(DESTROYED, 1.0, 0.1)
    assert told.startswith("by step 10 the loss had risen to 10.5 from 0.385 at the first, above the 1 of a network")
    assert "Lower the learning rate (0.1), for example to a tenth" in told


def test_what_is_told_does_not_depend_on_when_one_looks():
    assert {divergence(DESTROYED[:step], 1.0, 0.1) for step in range(WINDOW, len(DESTROYED) + 1)} == {
        divergence(DESTROYED, 1.0, 0.1)}


def test_it_is_told_after_the_loss_has_come_down_again():
    losses = [*DESTROYED, *[0.3] * 100]
    assert divergence(losses, 1.0, 0.1) == divergence(DESTROYED, 1.0, 0.1) and not is_diverged(losses, 1.0)


def test_the_step_by_step_look_sees_the_same_step():
    found = next(step for step in range(1, len(DESTROYED) + 1) if is_diverged(DESTROYED[:step], 1.0))
    assert f"by step {found} " in divergence(DESTROYED, 1.0, 0.1)


@pytest.mark.parametrize("seed", range(50))
def test_a_healthy_noisy_run_is_never_told_of(seed):
    assert divergence(healthy(seed), 1.0, 1e-4) is None


@pytest.mark.parametrize(("losses", "zeros"), [
    (DESTROYED[:WINDOW - 1], 1.0),  # too few
    ([0.1, *[0.9] * 50], 1.0),  # above its start, and still below a network that predicts nothing
    ([0.9, *[1.7] * 50], 1.0),  # above that, and hardly above its start: an untrained network
    ([0.1, *([0.1] * 4 + [30.0] * 2) * 10], 1.0),  # single steps
    ([], 1.0),
])
def test_what_is_no_divergence(losses, zeros):
    assert divergence(losses, zeros, 1e-4) is None


def test_the_loss_of_zeros_is_the_mean_square_of_noise_and_counts_every_term():
    assert trainer().loss_of_zeros == pytest.approx(1, rel=0.05)
    with_prior = trainer(training_config(objectives=[PriorPreservation(weight=0.5)]))
    assert with_prior.loss_of_zeros == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("objectives", [[BasePrior()], [MaskedPrior()], [ObjectSpecificLoss()]])
def test_every_objective_has_a_loss_of_zeros_without_a_forward(objectives):
    denoiser = TinyDenoiser()
    run = trainer(training_config(objectives=objectives), training_data(photos(mask=torch.ones(1, 8, 8))), denoiser)
    assert 0.9 < run.loss_of_zeros < 2.2 and denoiser.rows == []


def test_the_loss_of_zeros_is_above_that_of_a_network_that_knows_the_target():
    run = trainer()
    with run:
        losses = [step.loss for step in run.steps()]
    assert schedule().prediction == "epsilon" and not is_diverged(losses, run.loss_of_zeros)


# Layers that changed by more than they were


def test_layers_changed_beyond_their_own_size_are_told_with_what_to_do():
    assert explosion(LARGEST_CHANGE, 0.1) is None
    told = explosion(3.4, 0.1)
    assert told.startswith("half of the trained layers were changed by 3.4 times their own size or more")
    assert "Lower the learning rate (0.1), for example to a tenth" in told


@pytest.mark.parametrize(("rate", "is_told"), [(1e-3, False), (0.3, True)])
def test_a_destructive_rate_changes_layers_beyond_their_size_and_a_usual_one_does_not(rate, is_told):
    run = trainer(training_config(steps=20, learning_rate=rate))
    with run:
        for _ in run.steps():
            pass
        assert (explosion(run.relative_change(), rate) is not None) == is_told


def test_before_the_first_step_nothing_is_changed():
    run = trainer()
    with run:
        assert run.relative_change() == pytest.approx(0, abs=1e-5)


def test_the_change_is_measured_once_a_step():
    run = trainer(training_config(steps=2))
    with run:
        measured = []
        for part in run._trainables.values():
            if hasattr(part, "relative_changes"):
                original = part.relative_changes
                part.relative_changes = lambda original=original: measured.append(run.step) or original()
        for _ in run.steps():
            assert run.relative_change() == run.relative_change()
    assert measured == [1, 2]
