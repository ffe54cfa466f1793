"""A LoRA whose rank goes by the timestep does at every step of sampling what it did in training."""

from __future__ import annotations

import shutil
import types
from dataclasses import replace

import comfy.model_management
import comfy.model_sampling as sampling_kinds
import comfy.sd
import pytest
import torch
from families import FAMILIES, family_models
from test_adapter_files import INDEX, fp8_models, predict, randomise
from test_families_network import assert_close, sampled_once
from test_families_text_lengths import Texts, data, learned, predict_alone
from tiny_model import tiny_models
from trainer_rig import Untouched, equal, sample, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import (
    AdapterConfig,
    RankByTimestep,
    active_ranks,
    make_adapters,
    remaining_time,
)
from comfyui_personalize.core.store.files import read_metadata
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.trainer import Trainer
from comfyui_personalize.nodes.bridge.files import personalizations as personalization_files
from comfyui_personalize.nodes.bridge.files.personalizations import load_personalization, save_personalization
from comfyui_personalize.nodes.bridge.model.bypass import load_beside
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser, schedule_of
from comfyui_personalize.nodes.bridge.model.gradients import casting_layers, trainable
from comfyui_personalize.nodes.bridge.model.rank_by_timestep import Now, has_rank_by_timestep, load_by_timestep
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.bridge.text.encoder import encode

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
RANK, LEAST = 4, 1
INDICES = [0, 300, 600, 999]
"""At which 4, 3, 2 and 1 ranks act."""
NOISY = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
"""What `predict` of the adapter files' tests takes, too."""


def trained(models, **changes):
    options = TrainingOptions(adapter=AdapterConfig(rank=RANK, alpha=RANK, targets="attention_and_feed_forward"),
                              min_rank=LEAST)
    return train(models, options=options, learning_rate=0.05, **changes)


def random_lora(model, clip):
    """A LoRA of the tiny model whose every rank is seen."""
    tensors = trained((model, clip, tiny_models()[2]), steps=1)[2]
    generator = torch.Generator().manual_seed(2)
    return {name: 0.1 * torch.randn(value.shape, generator=generator) if value.ndim else value
            for name, value in tensors.items()}


def first_ranks(tensors, count):
    """A file of the first ranks alone, at the whole one's scale."""
    cut = {name: value.clone() for name, value in tensors.items()}
    for name, value in cut.items():
        if value.ndim:
            (value if "lora_down" in name else value.transpose(0, 1))[count:] = 0
    return cut


def denoised(model, clip, indices, noisy=NOISY):
    """What ComfyUI's own call of the network puts out at these levels, a row each."""
    model.pre_run()
    comfy.model_management.load_models_gpu([model])
    try:
        sampling, row = model.get_model_object("model_sampling"), encode(clip, "a sks dog")
        count = len(indices)
        options = {"wrappers": {kind: dict(found) for kind, found in model.wrappers.items()}}
        model.inject_model()
        try:
            return model.model.apply_model(noisy.expand(count, -1, -1, -1), sampling.sigmas[torch.tensor(indices)],
                                           c_crossattn=row.context.expand(count, -1, -1), transformer_options=options)
        finally:
            model.eject_model()
    finally:
        comfy.model_management.unload_all_models()


def test_at_every_timestep_the_first_ranks_act_and_every_row_has_its_own():
    model, clip, _ = tiny_models()
    lora = random_lora(model, clip)
    ranked = load_by_timestep(model, lora, 0.8, LEAST)
    together = denoised(ranked, clip, INDICES)
    for row, (index, rank) in enumerate(zip(INDICES, (4, 3, 2, 1), strict=True)):
        stock = comfy.sd.load_lora_for_models(model, None, first_ranks(lora, rank), 0.8, 0)[0]
        expected = denoised(stock, clip, [index])
        assert float((denoised(model, clip, [index]) - expected).abs().max()) > 1e-3
        torch.testing.assert_close(denoised(ranked, clip, [index]), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together[row:row + 1], expected, atol=1e-4, rtol=1e-4)


def test_sampling_predicts_what_training_did():
    model, clip, _ = tiny_models()
    row, chosen = encode(clip, "a sks dog"), AdapterConfig(rank=RANK, alpha=2.0)
    with trainable(model), casting_layers(model.model, always=False):
        denoiser = ComfyDenoiser(model, 64)
        adapter = make_adapters({"denoiser": denoiser}, {"denoiser": chosen}, 0)["denoiser"]
        ranks = RankByTimestep(denoiser.module, adapter.layers, LEAST, denoiser.schedule)
        randomise(adapter, 0.3)
        ranks.inject()
        expected, lora = predict(denoiser, row), adapter.export(denoiser.adapter_keys)
        ranks.eject()
        whole = predict(denoiser, row)
        adapter.eject()
    index = int(INDEX)
    sigma = model.get_model_object("model_sampling").sigmas[index]
    noisy = NOISY * (sigma.square() + 1).sqrt()
    got = (noisy - denoised(load_by_timestep(model, lora, 1.0, LEAST), clip, [index], noisy)) / sigma
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(whole, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
def test_in_every_family_rows_have_the_ranks_of_their_timesteps_in_training_and_in_sampling(name):
    model, clip, vae = family_models(name)
    captions = [f"a sks dog {number} 77" for number in range(3)]
    options = TrainingOptions(adapter=AdapterConfig(rank=RANK, alpha=RANK), min_rank=LEAST)
    run = Trainer(denoiser=ComfyDenoiser(model, 128), text_encoder=Texts(name), data=data(name, captions, "a dog 77"),
                  config=TrainingConfig(steps=1, batch=3, options=options))
    with trainable(model), run, torch.no_grad():
        learned(run)
        rows = run._draw_rows(0)["subject"]
        together = run._predict({"subject": rows})["subject"]
        assert_close(together, torch.cat([predict_alone(run, rows, number) for number in range(3)]), 1e-5)
        lora = {key: value if "down" in key or not value.ndim else 3 * value
                for key, value in run.export().adapter.items()}
    ranked, schedule = load_by_timestep(model, lora, 1.0, LEAST), schedule_of(model)
    latent = torch.randn(1, FAMILIES[name].channels, 8, 8, generator=torch.Generator().manual_seed(7))
    for index in (len(schedule) // 10, len(schedule) // 2, len(schedule) - 1):
        rank = int(active_ranks(RANK, LEAST, remaining_time(schedule, torch.tensor([index]))))
        stock = comfy.sd.load_lora_for_models(model, None, first_ranks(lora, rank), 1.0, 0)[0]
        plain, expected, got = (sampled_once(one, clip, "a sks dog", latent, 1, index)
                                for one in (model, stock, ranked))
        assert float((expected - plain).abs().max()) > 20 * float((got - expected).abs().max())


def test_model_samples_with_fewer_ranks_than_the_stock_loader_and_the_base_stays():
    models = tiny_models()
    with Untouched(models):
        outputs = trained(models)
        stock = comfy.sd.load_lora_for_models(models[0], None, outputs[2], 1.0, 0)[0]
        assert has_rank_by_timestep(outputs[0]) and not has_rank_by_timestep(models[0])
        ranked, whole = sample(outputs[0], models[1]), sample(stock, models[1])
        assert not torch.allclose(ranked, whole, atol=1e-4)
        assert not torch.allclose(ranked, sample(*models[:2]), atol=1e-4)


def test_previews_on_the_way_have_the_rank_too_and_change_nothing_of_the_training(store):
    def anew(**changes):
        shutil.rmtree(store, ignore_errors=True)
        return trained(tiny_models(), **changes)

    preview = PreviewSettings(prompt="a sks dog", steps=2, every=1)
    plain, shown, first = anew(), anew(preview=preview), anew(preview=preview, steps=1)
    assert equal(shown[2], plain[2]) and len(shown[4]) == 3
    assert torch.equal(first[4][-1], shown[4][0])


def test_on_weights_of_8_bits_it_is_computed_beside_them_as_every_adapter_is():
    model, clip = fp8_models()
    lora = random_lora(*tiny_models()[:2])
    ranked = load_by_timestep(model, lora, 1.0, LEAST)
    beside = load_beside(model, None, first_ranks(lora, 3), 1.0, 0)[0]
    torch.testing.assert_close(denoised(ranked, clip, [300]), denoised(beside, clip, [300]), atol=1e-3, rtol=1e-3)


def test_a_saved_file_says_so_and_loads_as_it_was_trained():
    models = tiny_models()
    outputs = trained(models)
    path = save_personalization(outputs[5], "ranked")
    assert "apply the whole rank at every step" in read_metadata(path)["readers"]
    name = str(path.relative_to(personalization_files.loras_folder()))
    loaded = load_personalization(name, models[0], models[1], 1.0, 1.0)
    assert has_rank_by_timestep(loaded[0])
    assert torch.equal(sample(loaded[0], models[1]), sample(outputs[0], models[1]))


def test_at_no_noise_it_is_the_stock_loaders_and_at_the_most_it_is_not():
    models = tiny_models()
    outputs = trained(models)
    whole = comfy.sd.load_lora_for_models(models[0], None, outputs[2], 1.0, 0)[0]
    at_none, at_most = (denoised(outputs[0], models[1], [index]) for index in (0, 999))
    torch.testing.assert_close(at_none, denoised(whole, models[1], [0]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(at_most, denoised(whole, models[1], [999]), atol=1e-4)


def test_training_on_top_of_it_is_refused_before_anything_is_loaded():
    models = tiny_models()
    ranked = trained(models)[0]
    with pytest.raises(InputError, match="model: got a model with a LoRA whose rank goes by the timestep"):
        train((ranked, *models[1:]), run_name="on top")


def test_a_file_of_other_layers_than_lora_is_refused():
    models = tiny_models()
    options = replace(TrainingOptions(), adapter=AdapterConfig(kind="loha", rank=RANK, alpha=RANK))
    tensors = train(models, options=options, run_name="loha")[2]
    with pytest.raises(InputError, match="file: got a rank by timestep, and .*, which is no plain LoRA"):
        load_by_timestep(models[0], tensors, 1.0, LEAST)


KINDS = {"eps": (sampling_kinds.ModelSamplingDiscrete, sampling_kinds.EPS),
         "flow": (sampling_kinds.ModelSamplingDiscreteFlow, sampling_kinds.CONST),
         "cosmos": (sampling_kinds.ModelSamplingCosmosRFlow, sampling_kinds.COSMOS_RFLOW)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_is_read_off_the_sigma_that_a_stock_sampler_gives(kind):
    sampling = type("Sampling", KINDS[kind], {})()
    seen = []
    now = Now()
    inner = types.SimpleNamespace(model_sampling=sampling)

    class Executor:
        class_obj = inner

        def __call__(self, x, sigmas):
            seen.append(now.remaining)

    for level in (0.1, 0.5, 0.9):
        sigma = sampling.sigmas[int(level * len(sampling.sigmas))]
        now.while_denoising(Executor(), torch.zeros(1), sigma[None])
        noise = {"flow": float(sigma), "cosmos": float(sigma / (1 + sigma)), "eps": level}[kind]
        assert abs(float(seen[-1]) - (1 - noise)) < 2e-3
    assert now.remaining is None
