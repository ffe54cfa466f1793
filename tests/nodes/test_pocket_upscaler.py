"""The pocket upscaler in stock nodes: recognised, sampled, four times as large, nearer to the truth than bicubic."""

from __future__ import annotations

import comfy.sd
import nodes as stock
import numpy as np
import pytest
import torch
from comfy import supported_models
from comfy_extras.nodes_sdupscale import SD_4XUpscale_Conditioning
from safetensors.torch import save_file

from comfyui_personalize.pocket import upscaler, upscaler_space
from comfyui_personalize.pocket.comfyui.registration import register_pocket
from comfyui_personalize.pocket.comfyui.upscaler import register_upscaler
from comfyui_personalize.pocket.export import UPSCALER_FILE
from comfyui_personalize.pocket.subjects import subject_photos


@pytest.fixture(scope="module")
def loaded():
    """MODEL and VAE of the upscaler, CLIP of the pocket checkpoint."""
    if not UPSCALER_FILE.exists():
        pytest.skip("lacks pocket/checkpoints/pocket_upscaler.safetensors")
    register_pocket()
    with torch.inference_mode():
        load = stock.CheckpointLoaderSimple().load_checkpoint
        (model, _, vae), clip = load("pocket_upscaler.safetensors"), load("pocket.safetensors")[1]
        return model, clip, vae


def upscale(loaded, low, steps, level=0.0):
    """Stock nodes alone: pictures (B, h, w, 3) in 0..1 to (B, 4 h, 4 w, 3)."""
    model, clip, vae = loaded
    with torch.inference_mode():
        positive = stock.CLIPTextEncode().encode(clip, "a dog")[0]
        positive, negative, latent = SD_4XUpscale_Conditioning.execute(low, positive, positive, 4.0, level).result
        samples = stock.KSampler().sample(model, 1, steps, 1.0, "euler", "simple", positive, negative, latent)[0]
        return stock.VAEDecode().decode(vae, samples)[0]


def test_registration_is_idempotent_and_takes_no_other_model():
    for _ in range(2):
        register_upscaler()
    known = [entry for entry in supported_models.models if entry.__name__ == "PocketUpscaler"]
    assert len(known) == 1
    others = [entry for entry in supported_models.models if entry is not known[0]]
    assert not any(known[0].matches(entry.unet_config) for entry in others)


def test_it_is_the_stock_network_class_with_conditions_of_its_own(loaded):
    model, _, vae = loaded
    assert type(model.model).__name__ == "SD_X4Upscaler"
    assert type(model.model.model_config).__name__ == "PocketUpscaler"
    assert model.model.diffusion_model.label_emb.weight.shape[0] == upscaler_space.NOISE_LEVELS
    assert vae.downscale_ratio == 1 and vae.latent_channels == 3


def test_stock_nodes_upscale_four_times_nearer_to_the_truth_than_bicubic(loaded):
    drawn = np.stack([photo.pixels for photo in subject_photos(5, 3)])
    truth = torch.from_numpy(drawn).float() / 255
    low = upscaler_space.low_res(truth.movedim(-1, 1) * 2 - 1)
    made = upscale(loaded, low.movedim(1, -1) / 2 + 0.5, 6)
    assert made.shape == truth.shape
    bicubic = torch.nn.functional.interpolate(low / 2 + 0.5, scale_factor=4, mode="bicubic").movedim(1, -1)
    assert (made - truth).square().mean() < (bicubic.clamp(0, 1) - truth).square().mean()


@torch.no_grad()
def test_the_exported_network_is_the_trained_one(tmp_path):
    register_upscaler()
    trained, exported = upscaler.new_upscaler().eval(), upscaler.new_upscaler()
    save_file(upscaler.upscaler_tensors(exported), tmp_path / "start.safetensors")
    model = comfy.sd.load_checkpoint_guess_config(str(tmp_path / "start.safetensors"))[0]
    comfy.model_management.load_models_gpu([model])
    x, time, level = torch.randn(2, 27, 8, 8), torch.tensor([100, 900]), torch.tensor([0, 8])
    context = torch.randn(2, 77, 128)
    expected = trained(x, time, context, class_labels=level).sample
    got = model.model.diffusion_model(x, time, context=context, y=level)
    assert torch.allclose(got, expected, atol=0.05)  # float16 weights
    assert (got - expected).square().mean() < 1e-4 * expected.square().mean()
