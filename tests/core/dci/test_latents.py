"""Where the auxiliary branch starts, and the noise prediction that it shares."""

import torch

from comfyui_personalize.core.dci.latents import auxiliary_noise, share_noise_prediction


def test_auxiliary_noise_is_standard_normal_independent_and_per_row():
    noise = torch.randn(3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    own = auxiliary_noise(noise, 7)
    assert abs(own.mean()) < 0.03 and abs(own.std() - 1) < 0.03 and abs((own * noise).mean()) < 0.03
    assert torch.equal(own, auxiliary_noise(noise, 7)) and not torch.equal(own, auxiliary_noise(noise, 8))
    assert torch.equal(own[2:], auxiliary_noise(noise[2:], 7)) and not torch.equal(own[0], own[1])


def test_shared_noise_is_the_pictures_own():
    noise = torch.randn(2, 4, 8, 8)
    assert torch.equal(auxiliary_noise(noise, 7, "shared"), noise)


def test_auxiliary_noise_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    auxiliary_noise(torch.ones(1, 1, 2, 2), 2**64 - 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_rows_without_noise_get_none():
    assert not auxiliary_noise(torch.zeros(2, 4, 8, 8), 7).any()


def test_shared_noise_prediction_is_equal_in_epsilon_space():
    concept, auxiliary, denoised = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    estimate = share_noise_prediction(denoised, concept, auxiliary)
    torch.testing.assert_close((auxiliary - estimate) / 3.0, (concept - denoised) / 3.0)
