"""PersonalizeSuperResolution on the x4 upscaler's true structure, random weights: what it sees, learns and saves."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import folder_paths
import nodes as stock
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from tiny_model import tiny_models
from tiny_upscaler import upscaler_models
from trainer_rig import CancelAt, equal, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.core.store.files import write_tensors
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.nodes.bridge.super_resolution.training import UpscalerRequest, check, pair_data, prepared_pairs
from comfyui_personalize.nodes.bridge.super_resolution.upscaler import (
    LOW,
    NONE,
    USUAL,
    UpscalerDenoiser,
    level_variances,
    pairs_objective,
    upscale,
    upscaler_adapter,
)
from comfyui_personalize.nodes.super_resolution import PersonalizeSuperResolution

CROP = 32


@pytest.fixture(scope="module")
def models():
    return upscaler_models()


def subjects(count=2, side=80):
    generator = torch.Generator().manual_seed(0)
    photos = tuple(Photo(pixels=torch.rand(side, side, 3, generator=generator)) for _ in range(count))
    return (Subject(identifier="sks", class_noun="dog", photos=photos),)


def request(models, noise=LOW, steps=2, rate=1e-3, **changes):
    pairs = pairs_objective(models[0], noise, CROP)
    config = TrainingConfig(steps=steps, learning_rate=rate, resolution=64, objectives=(pairs,),
                            options=TrainingOptions(adapter=upscaler_adapter(models[0], 4)))
    given = {"model": models[0], "clip": models[1], "vae": models[2], "subjects": subjects(), "config": config,
             "run_name": "up"}
    return UpscalerRequest(**given | changes)


def personalize(models, **changes):
    """The node's outputs: MODEL, LORA_MODEL, PERSONALIZATION, noise_augmentation, sheet, report."""
    inputs = {"model": models[0], "clip": models[1], "vae": models[2], "subject": subjects(), "noise": LOW, "steps": 2,
              "learning_rate": 1e-3, "rank": 4, "resolution": 64, "crop": CROP, "seed": 1, "run_name": "up",
              "preview_photos": 0}
    return PersonalizeSuperResolution.PREPARE_CLASS_CLONE(None).execute(**inputs | changes).result


@pytest.mark.parametrize("level", [0, 8])
def test_the_denoiser_sees_what_comfyui_shows_the_network(models, level):
    model = models[0]
    comfy.model_management.load_models_gpu([model])
    generator = torch.Generator().manual_seed(3)
    x, low = torch.randn(2, 4, 8, 8, generator=generator), torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    context = torch.randn(2, 77, 64, generator=generator)
    index = torch.tensor([600, 600])
    with torch.inference_mode():
        conds = model.model.extra_conds(noise=x, concat_image=low, noise_augmentation=level / 350, seed=9,
                                        device=x.device, cross_attn=context)
        conds = {name: value.process_cond(batch_size=2, area=None, device=x.device).cond
                 for name, value in conds.items()}
        sigma = model.model.model_sampling.sigmas[index]
        expected = model.model.apply_model(x, sigma, **conds, transformer_options={})
        denoiser = UpscalerDenoiser(model, level)
        noisy = x / (sigma.view(-1, 1, 1, 1) ** 2 + 1).sqrt()
        velocity = denoiser(noisy, index, [Conditioning(context[row:row + 1], concat=conds["c_concat"][row:row + 1])
                                           for row in range(2)])
        got = model.model.model_sampling.calculate_denoised(sigma, velocity, x)
    assert conds["y"].tolist() == [level, level]
    assert (level == 0) == torch.equal(conds["c_concat"], low)
    assert torch.allclose(got, expected, atol=2e-5)


def test_the_level_and_the_low_res_picture_change_the_prediction(models):
    comfy.model_management.load_models_gpu([models[0]])
    x, low, index = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 8, 8), torch.tensor([500])
    context = torch.randn(1, 77, 64)
    with torch.inference_mode():
        answers = [UpscalerDenoiser(models[0], level)(x, index, [Conditioning(context, concat=picture)])
                   for level, picture in ((0, low), (8, low), (0, -low))]
    assert not torch.allclose(answers[0], answers[1]) and not torch.allclose(answers[0], answers[2])


def test_pairs_are_windows_of_latents_and_of_the_small_photo(models):
    asked = request(models)
    latents = torch.arange(2 * 4 * 16 * 16).float().view(2, 4, 16, 16)
    data = pair_data(asked, latents)
    views = data.examples[0].views
    assert len(data.examples) == 2 and len(views) == 9  # 8 cells, 4 apart, in 16
    assert views[0].latents.shape == (4, 8, 8) and views[0].concat.shape == (3, 8, 8)
    scaled = models[0].model.process_latent_in(latents)
    assert torch.equal(views[0].latents, scaled[0, :, 4:12, 4:12])  # the middle comes first
    assert data.examples[0].caption == "a sks dog"


def test_noise_is_the_papers_or_the_nearest_level_of_the_model(models):
    low, usual = (pairs_objective(models[0], noise, CROP) for noise in (LOW, USUAL))
    assert (low.variance, low.level) == (1e-5, 0)
    assert level_variances(models[0])[0] == pytest.approx(1e-4, rel=1e-3)
    assert usual.level > 0 and usual.variance == pytest.approx(1e-3, rel=0.15)
    assert usual.variance == float(level_variances(models[0])[usual.level])


def test_loss_falls_on_fixed_noise_and_the_stock_loader_reproduces_it(models, store):
    asked = request(models, steps=16, rate=3e-3)
    with prepared_pairs(check(asked)) as (trainer, _):
        view = trainer.data.examples[0].views[0]
        noise, index = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(50, 1000, 120)
        latents, schedule = view.latents.expand(8, -1, -1, -1), trainer.denoiser.schedule
        noisy = schedule.add_noise(latents, noise, index)
        context = trainer.text_encoder.encode(["a sks dog"])[0].context
        shown = [Conditioning(context, concat=view.concat[None])] * 8

        def predict(denoiser):
            with torch.no_grad():
                return denoiser(noisy, index, shown)

        before = predict(trainer.denoiser)
        for _ in trainer.steps():
            pass
        after, lora = predict(trainer.denoiser), trainer.export().adapter
    target = schedule.target(latents, noise, index)
    assert (after - target).square().mean() < 0.9 * (before - target).square().mean()
    name = "upscaler.safetensors"
    write_tensors(Path(folder_paths.get_folder_paths("loras")[0]) / name, lora, {})
    folder_paths.filename_list_cache.pop("loras", None)
    with torch.inference_mode():
        loaded = stock.LoraLoader().load_lora(models[0], models[1], name, 1.0, 1.0)[0]
        comfy.model_management.load_models_gpu([loaded], force_patch_weights=True)
        assert torch.allclose(predict(UpscalerDenoiser(loaded, 0)), after, atol=2e-3)
        comfy.model_management.load_models_gpu([models[0]], force_patch_weights=True)
        assert torch.allclose(predict(UpscalerDenoiser(models[0], 0)), before, atol=1e-5)


def test_a_cancelled_run_resumes_to_the_same_bits_and_loads_afterwards(models, store, monkeypatch):
    whole = personalize(models, steps=3, run_name="whole", seed=5)
    with monkeypatch.context() as patch:
        CancelAt(patch, 2)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            personalize(models, steps=3, run_name="cut", seed=6)
    comfy.model_management.interrupt_current_processing(False)
    resumed = personalize(models, steps=3, run_name="cut", seed=6)
    assert "resumed from step 2" in resumed[5]
    assert not equal(resumed[1], whole[1])  # another seed
    again = personalize(models, steps=3, run_name="cut", seed=6)
    assert "nothing to train" in again[5] and equal(again[1], resumed[1])
    assert "trained 3 steps" in personalize(models, steps=3, run_name="fresh", seed=6, batch=2)[5]


def test_no_fine_tuning_hands_the_upscaler_on_and_saves_nothing(models, store):
    model, lora, personalization, augmentation, _, report = personalize(models, noise=NONE)
    assert model is models[0] and not store.exists()
    assert isinstance(lora, ExecutionBlocker) and isinstance(personalization, ExecutionBlocker)
    assert round(350 * augmentation) == pairs_objective(models[0], USUAL, CROP).level and "no fine-tuning" in report


def test_low_noise_is_sampled_at_level_zero_and_the_report_warns_of_small_photos(models, store):
    _, _, _, augmentation, sheet, report = personalize(models, resolution=96, preview_photos=1, preview_steps=1)
    assert augmentation == 0.0 and "2 of 2 photos are smaller" in report and "dB personalized" in report
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3 and sheet.shape[2] >= 4 * CROP and sheet.max() <= 1


def test_upscaling_is_four_times_as_large_and_keeps_the_random_state(models):
    before = torch.get_rng_state()
    made = upscale(*models, torch.zeros(1, 3, 8, 8), prompt="a dog", level=8, steps=1, cfg=2.0, seed=0)
    assert made.shape == (1, 32, 32, 3) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("changes", "message"), [
    ({"model": 0}, r"model: got a TinyModel model, expected Stable Diffusion's x4 upscaler"),
    ({"vae": 2}, r"vae: got a VAE of 4 channels at 1/8, expected the upscaler's VAE"),
    ({"clip": 1}, r"clip: got a CLIP of width"),
])
def test_models_of_other_kinds_are_refused_before_anything_is_loaded(models, changes, message, monkeypatch):
    tiny = tiny_models()
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: pytest.fail("something was loaded"))
    given = {name: tiny[place] for name, place in changes.items()}
    if "clip" in given:
        monkeypatch.setitem(models[0].model.model_config.unet_config, "context_dim", 1024)
    with pytest.raises(InputError, match=message):
        personalize(models, **given)


@pytest.mark.parametrize(("changes", "message"), [
    ({"clip": None}, "clip: got nothing"), ({"crop": 96}, "crop: got 96, expected at most the resolution, 64"),
    ({"crop": 40}, "crop: got 40, expected a multiple of 32"), ({"run_name": "a/b"}, "run_name"),
])
def test_bad_settings_are_refused(models, store, changes, message):
    with pytest.raises(InputError, match=message):
        personalize(models, **changes)


def test_the_trainer_of_text_to_image_models_refuses_an_upscaler(models, store):
    with pytest.raises(InputError, match="Personalize Super-Resolution"):
        train(models)
