"""The closed-form encoder and the narrow decoder live in TAESD's structure."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.pocket.config import LATENT_CHANNELS
from comfyui_personalize.pocket.klt import VAE_SCALE, build_encoder, fit_transform
from comfyui_personalize.pocket.taesd import FULL_WIDTHS, Decoder, Encoder, widen
from comfyui_personalize.pocket.textures import texture


@pytest.fixture(scope="module")
def transform():
    return fit_transform(world_pictures=40, textures=40)


def test_the_encoder_has_taesds_keys():
    keys = set(Encoder(LATENT_CHANNELS).state_dict())
    assert {"0.weight", "0.bias", "1.conv.0.weight", "2.weight", "14.weight", "14.bias"} <= keys
    assert "2.bias" not in keys and len(keys) == 67


def test_the_decoder_has_taesds_keys():
    state = Decoder(LATENT_CHANNELS).state_dict()
    assert {"1.weight", "3.conv.0.weight", "7.weight", "12.weight", "17.weight", "19.weight"} <= set(state)
    assert state["1.weight"].shape == (64, LATENT_CHANNELS, 3, 3) and state["19.weight"].shape == (3, 64, 3, 3)


def test_the_encoder_network_equals_the_transform(transform):
    pictures = torch.rand(2, 32, 48, 3)
    latents = build_encoder(transform)(pictures.permute(0, 3, 1, 2)) / VAE_SCALE
    assert torch.allclose(latents, transform.encode(pictures), atol=2e-4)


def test_latents_have_about_unit_size(transform):
    pictures = torch.stack([torch.from_numpy(texture(i, 64).copy()) for i in range(60)]) / 255
    assert 0.6 < transform.encode(pictures).square().mean().sqrt() < 1.4


def test_linear_decoding_inverts_what_the_basis_spans(transform):
    latents = torch.randn(1, LATENT_CHANNELS, 4, 4)
    assert torch.allclose(transform.encode(transform.decode_linear(latents)), latents, atol=1e-3)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_widening_keeps_the_function(noise):
    narrow = Decoder(LATENT_CHANNELS, (32, 24, 16, 8))
    for parameter in narrow.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    wide = widen(narrow, LATENT_CHANNELS, noise)
    latents = torch.randn(1, LATENT_CHANNELS, 4, 4)
    assert wide[1].weight.shape[0] == FULL_WIDTHS[0]
    assert torch.allclose(wide(latents), narrow(latents), atol=1e-5)


def test_textures_are_a_function_of_their_seed():
    assert (texture(5, 64) == texture(5, 64)).all() and texture(5, 64).shape == (64, 64, 3)
    assert (texture(5, 64) != texture(6, 64)).any()
