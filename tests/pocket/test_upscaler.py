"""The pocket upscaler's blocks, pairs, start and file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from comfyui_personalize.pocket import upscaler, upscaler_network, upscaler_space
from comfyui_personalize.pocket.export import UPSCALER_FILE
from comfyui_personalize.pocket.subjects import subject_photos


@pytest.fixture(scope="module")
def pictures():
    drawn = [photo.pixels for photo in subject_photos(2, 4)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_blocks_are_kept_to_33_decibels_and_a_flat_one_exactly(pictures):
    latents = upscaler_space.pictures_to_latents(pictures)
    assert latents.shape == (4, 24, 24, 24)
    error = (upscaler_space.latents_to_pictures(latents) - pictures).square().mean()
    assert 10 * torch.log10(4 / error) > 33
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert torch.allclose(upscaler_space.latents_to_pictures(upscaler_space.pictures_to_latents(flat)), flat, atol=1e-5)


def test_latents_have_about_unit_size(pictures):
    assert 0.5 < upscaler_space.pictures_to_latents(pictures).square().mean() < 2


def test_going_back_and_forth_changes_no_latent():
    latents = torch.randn(1, 24, 3, 5, generator=torch.Generator().manual_seed(0))
    again = upscaler_space.pictures_to_latents(upscaler_space.latents_to_pictures(latents))
    assert torch.allclose(again, latents, atol=1e-5)


def test_sides_that_are_no_multiples_of_four_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        upscaler_space.pictures_to_latents(torch.zeros(1, 3, 10, 8))


def test_pairs_are_crops_of_the_same_place():
    latents, low, _ = upscaler.upscaler_batch(0, 16)
    assert latents.shape == (16, 24, 16, 16) and low.shape == (16, 3, 16, 16)
    again = torch.nn.functional.avg_pool2d(upscaler_space.latents_to_pictures(latents), 4)
    assert (again - low).abs().mean() < 0.05


def test_the_noise_levels_are_those_of_the_x4_upscaler():
    variances = 1 - upscaler_network.alphas_cumprod()
    assert variances[0] == pytest.approx(1e-4, rel=1e-3) and variances[8] == pytest.approx(1e-3, rel=0.15)


@torch.no_grad()
def test_the_start_knows_the_colours_and_its_file_form_is_the_same_function():
    unet = upscaler.new_upscaler().eval()
    latents, low, _ = upscaler.upscaler_batch(1, 16)
    level, time = torch.zeros(16, dtype=torch.long), torch.full((16,), 990)
    generator = torch.Generator().manual_seed(0)
    noise, context = torch.randn(latents.shape, generator=generator), torch.randn(16, 77, 128, generator=generator)
    inputs = (torch.cat([noise, low], 1), time, context)
    answer = unet(*inputs, class_labels=level).sample
    means = slice(0, upscaler_network.MEANS)
    assert (answer + latents)[:, means].square().mean() < 0.1 * latents[:, means].square().mean()
    upscaler_network.scale_output(unet, upscaler_network.OUTPUT_SCALE)
    assert unet.conv_norm_out.eps == pytest.approx(1e-5)
    assert torch.allclose(unet(*inputs, class_labels=level).sample, answer, atol=1e-3)


def test_the_committed_file_is_small_and_holds_one_network():
    if not UPSCALER_FILE.exists():
        pytest.skip("lacks pocket/checkpoints/pocket_upscaler.safetensors")
    assert UPSCALER_FILE.stat().st_size <= 3_500_000
    with safe_open(UPSCALER_FILE, "pt") as file:
        assert file.get_slice("model.diffusion_model.label_emb.weight").get_shape()[0] == 351
        assert "first_stage_model.pixel_space_vae" in set(file.keys())
