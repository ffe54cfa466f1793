"""Going on from the committed generator: nothing but the UNet changes, and a cut-off run resumes exactly."""

from __future__ import annotations

import contextlib

import pytest
import torch

from comfyui_personalize.pocket.export import CHECKPOINT
from comfyui_personalize.pocket.names import tokenizer_folder

pytestmark = pytest.mark.skipif(not CHECKPOINT.exists() or not (tokenizer_folder() / "vocab.json").exists(),
                                reason="lacks the pocket model's files")


@pytest.fixture(scope="module")
def transform():
    from comfyui_personalize.pocket.published import load_published_transform

    return load_published_transform()


def test_the_published_encoder_is_read_back_as_one_matrix(transform):
    from comfyui_personalize.pocket.config import LATENT_CHANNELS
    from comfyui_personalize.pocket.klt import VAE_SCALE
    from comfyui_personalize.pocket.published import ENCODER_PREFIX, below, published_tensors
    from comfyui_personalize.pocket.taesd import Encoder

    encoder, pictures = Encoder(LATENT_CHANNELS), torch.rand(2, 32, 24, 3)
    encoder.load_state_dict(below(published_tensors(), ENCODER_PREFIX))
    with torch.no_grad():
        wanted = encoder(pictures.permute(0, 3, 1, 2)) / VAE_SCALE
    assert torch.allclose(transform.encode(pictures), wanted, atol=5e-3)


def test_linearising_the_output_keeps_what_a_picture_of_usual_noise_gets(transform):
    from comfyui_personalize.pocket.config import FILE_EPSILON, TRAINED_EPSILON
    from comfyui_personalize.pocket.published import load_published
    from comfyui_personalize.pocket.refine import linearise_output
    from comfyui_personalize.pocket.unet import set_output_norm

    generator, noise = load_published(), torch.randn(4, 16, 12, 12)
    set_output_norm(generator.unet, FILE_EPSILON)
    context, timesteps = generator.encode(["a dog"] * 4), torch.full((4,), 999)
    with torch.no_grad():
        before = generator.unet(noise, timesteps, context).sample
        linearise_output(generator, transform)
        after = generator.unet(noise, timesteps, context).sample
        stronger = generator.unet(1.1 * noise, timesteps, context).sample
    assert generator.unet.conv_norm_out.eps == TRAINED_EPSILON
    assert abs(float(after.std() / before.std()) - 1) < 0.5
    assert 1.04 < float(stronger.std() / after.std()) < 1.2  # a normalised output would stay as it was


def test_a_cut_off_run_goes_on_as_if_it_had_not_been(transform, tmp_path, monkeypatch):
    from comfyui_personalize.pocket import refine

    monkeypatch.setattr(refine, "BATCH", 2)
    whole = refine.Refinement(refine.start(CHECKPOINT, transform), transform)
    with contextlib.closing(refine.train_steps(whole, 10**6)) as run:
        next(run)
        whole.save(tmp_path / "half.pt")
    next(refine.train_steps(whole, 10**6))
    resumed = refine.Refinement(refine.start(CHECKPOINT, transform), transform)
    resumed.load(tmp_path / "half.pt")
    next(refine.train_steps(resumed, 10**6))
    assert torch.equal(whole.flat.vector, resumed.flat.vector) and torch.equal(whole.ema, resumed.ema)


def test_a_refined_file_differs_in_the_unet_alone(transform, tmp_path, monkeypatch):
    from comfyui_personalize.pocket import refine
    from comfyui_personalize.pocket.published import load_published, published_facts, published_tensors

    run = refine.Refinement(refine.start(CHECKPOINT, transform), transform)
    run.ema += 0.001
    run.step = 3
    run.save(tmp_path / "refined.pt")
    path = refine.export_refined(tmp_path)
    old, new = published_tensors(), published_tensors(path)
    changed = {key.split(".")[0] for key in old if not torch.equal(old[key], new[key])}
    assert changed == {"model"} and old.keys() == new.keys()
    assert all(tensor.isfinite().all() for tensor in new.values())
    assert published_facts(path)["refinement_steps"] == published_facts().get("refinement_steps", 0) + 3
    inputs = torch.randn(1, 16, 12, 12), torch.tensor([500]), torch.randn(1, 77, 128)
    with torch.no_grad():
        filed = load_published(path).unet(*inputs).sample
        from comfyui_personalize.pocket.generator import unflatten

        unflatten(run.ema, list(run.generator.unet.parameters()))
        assert (run.generator.unet(*inputs).sample - filed).abs().max() < 0.02
