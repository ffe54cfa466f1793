"""The forward process and its targets, per prediction space; the references to diffusers are in test_trainer."""

import pytest
import torch
from tiny_unet import schedule

from comfyui_personalize.core.model.schedule import NoiseSchedule

LATENTS, NOISE = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
INDEX = torch.tensor([0, 500, 999])


def test_variance_preserving_levels_have_unit_variance_and_the_given_ratio():
    sigmas = torch.linspace(0.03, 14.6, 1000)
    levels = NoiseSchedule.variance_preserving("epsilon", sigmas, torch.arange(1000))
    torch.testing.assert_close(levels.alphas**2 + levels.sigmas**2, torch.ones(1000))
    torch.testing.assert_close(levels.sigmas / levels.alphas, sigmas)
    assert len(levels) == 1000


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
def test_latents_are_recovered_from_a_perfect_prediction(prediction):
    levels = schedule(prediction)
    noisy, target = levels.add_noise(LATENTS, NOISE, INDEX), levels.target(LATENTS, NOISE, INDEX)
    alphas, sigmas = levels.alphas[INDEX].view(-1, 1, 1, 1), levels.sigmas[INDEX].view(-1, 1, 1, 1)
    recovered = {
        "epsilon": lambda: (noisy - sigmas * target) / alphas,
        "v_prediction": lambda: alphas * noisy - sigmas * target,
        "flow": lambda: noisy - sigmas * target,
    }[prediction]()
    torch.testing.assert_close(recovered, LATENTS, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
def test_rows_are_independent(prediction):
    levels = schedule(prediction)
    for row in range(3):
        one = slice(row, row + 1)
        for function in (levels.add_noise, levels.target):
            together, alone = function(LATENTS, NOISE, INDEX), function(LATENTS[one], NOISE[one], INDEX[one])
            assert torch.equal(together[one], alone)
