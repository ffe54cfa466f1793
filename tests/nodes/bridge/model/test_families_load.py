"""ComfyUI's own loader takes each family's reduced model for what it is."""

from __future__ import annotations

import comfy.sample
import pytest
import torch
from families import FAMILIES, family_models

from comfyui_personalize.nodes.bridge.model.denoiser import schedule_of


@pytest.mark.parametrize("name", FAMILIES)
def test_the_stock_loader_detects_the_family_and_samples(name):
    family = FAMILIES[name]
    model, clip, vae = family_models(name)
    assert type(model.model.model_config) is family.config
    assert tuple(sorted(clip.tokenize("a dog"))) == family.encoders
    assert schedule_of(model).prediction == family.prediction
    assert model.get_model_object("latent_format").latent_channels == vae.latent_channels == family.channels
    cond = clip.encode_from_tokens_scheduled(clip.tokenize("a sks dog"), show_pbar=False)
    noise = torch.randn(1, family.channels, 8, 8, generator=torch.Generator().manual_seed(5))
    out = comfy.sample.sample(model, noise, 2, 3.0, "euler", "normal", cond, cond, torch.zeros_like(noise), seed=5,
                              disable_pbar=True)
    assert out.shape == noise.shape and bool(out.isfinite().all())
