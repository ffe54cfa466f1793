"""Latents of every family as pictures (C, h, w): pixels per latent, patches, frames."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.latent_formats
import pytest
import torch

from comfyui_personalize.nodes.bridge.model.gradients import training_memory
from comfyui_personalize.nodes.bridge.model.latent_shapes import (
    has_frames,
    in_model_space,
    pixels_per_latent,
    size_step,
)


def model_of(latent_format, patch=1):
    base = SimpleNamespace(latent_format=latent_format, process_latent_in=latent_format.process_in,
                           diffusion_model=SimpleNamespace(patch_size=patch))
    return SimpleNamespace(model=base, get_model_object=lambda name: latent_format,
                           memory_required=lambda shape: shape[0] * shape[2] * shape[3])


def test_a_picture_of_a_films_format_is_one_frame_of_its_own_scale():
    known, latents = comfy.latent_formats.Wan21(), torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    assert has_frames(model_of(known).model)
    for ours, latent in zip(in_model_space(model_of(known), latents), latents, strict=True):
        assert ours.shape == (16, 4, 4)
        assert torch.equal(ours, known.process_in(latent[None, :, None])[0, :, 0])


def test_latents_of_other_formats_keep_their_four_dimensions():
    latents = torch.ones(1, 4, 2, 2)
    known = model_of(comfy.latent_formats.SD15())
    assert not has_frames(known.model)
    assert torch.equal(in_model_space(known, latents)[0], 0.18215 * latents[0])


@pytest.mark.parametrize(("name", "pixels", "patch", "step"), [
    ("SD15", 8, 1, 8), ("Flux", 8, 2, 8), ("Wan21", 8, (1, 2, 2), 8), ("Flux2", 16, 1, 16),
    ("HunyuanImage21", 32, [1, 1], 32), ("ChromaRadiance", 1, 16, 16), ("HiDreamO1Pixel", 1, 32, 32)])
def test_sizes_are_whole_patches_of_the_formats_own_latents(name, pixels, patch, step):
    model = model_of(getattr(comfy.latent_formats, name)(), patch)
    assert pixels_per_latent(model) == pixels and size_step(model, pixels) == step


def test_memory_is_estimated_for_the_latents_of_the_format():
    assert training_memory(model_of(comfy.latent_formats.SD15()), 2, 1024, 4) == 3 * 2 * 128 * 128
    assert training_memory(model_of(comfy.latent_formats.HunyuanImage21()), 1, 1024, 64) == 3 * 32 * 32
