"""A run is trained in one MODEL, and sampled and handed on in another of the same layers."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_management
import comfy.sd
import pytest
import torch
from families import family_models
from sample_graphs import WORDS, request
from test_adapter_files import fp8_models
from tiny_model import tiny_models
from tiny_upscaler import upscaler_models
from trainer_rig import CancelAt, Untouched, equal, photos, sample, subjects, train, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.core.training.trainer import Trainer
from comfyui_personalize.core.training.validation import ValidationConfig
from comfyui_personalize.nodes.bridge.files.personalizations import load_personalization, save_personalization
from comfyui_personalize.nodes.bridge.sampling.sampling import sample_preview
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings, Validation
from comfyui_personalize.nodes.bridge.training.checks import check, warnings_about_run
from comfyui_personalize.nodes.bridge.training.plan import make_plan

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
PREVIEW = PreviewSettings(prompt="a sks dog", steps=2, every=1)
TEXT_TOO = TrainingOptions(adapter=AdapterConfig(rank=4, alpha=4), text_encoder_rate=1e-2)


@pytest.fixture
def models():
    return tiny_models()


@pytest.fixture
def other():
    """A MODEL of the same layers and other weights."""
    return tiny_models(seed=1)[0]


class Colours:
    """Embeds pictures as their mean colour."""

    def embed_images(self, pixels):
        return pixels.reshape(len(pixels), -1, 3).mean(1)

    def embed_texts(self, texts):
        return torch.ones(len(texts), 3)


def validated(best_by: str) -> Validation:
    return Validation(config=ValidationConfig(every=1, draws=1, pictures=1, best_by=best_by), dino=Colours(),
                      held_out=subjects(photos=photos(1, seed=7)))


def picture(model, clip) -> torch.Tensor:
    """What the trainer's preview shows of a MODEL and CLIP."""
    return sample_preview(model, clip, tiny_models()[2], PREVIEW, 64)


@pytest.mark.parametrize("settings", [
    {"options": TEXT_TOO}, {"token_vectors": WORDS},
    {"options": TrainingOptions(adapter=AdapterConfig(kind="full", targets="attention"))}],
    ids=["text encoder", "learned words", "all weights"])
def test_the_bits_that_are_learned_are_those_without_it_and_the_other_model_gets_them(models, other, tmp_path,
                                                                                      monkeypatch, settings):
    alone = train(models, **settings)
    use_store(tmp_path / "other", monkeypatch)
    with Untouched(models), Untouched((other, *models[1:])):
        model, clip, lora, losses, pictures, result, *_ = train(models, sample_with=other, preview=PREVIEW, **settings)
    assert equal(lora, alone[2]) and losses == alone[3]
    assert result.file.read_bytes() == alone[5].file.read_bytes()
    assert model.model is other.model
    assert torch.equal(sample(model, clip), sample(comfy.sd.load_lora_for_models(other, None, lora, 1, 0)[0], clip))
    assert not torch.equal(sample(model, clip), sample(other, clip))
    assert len(pictures) == 3 and not torch.equal(pictures[0], picture(other, models[1])[0])


def test_previews_are_sampled_by_the_other_model_with_what_was_learned_so_far(models, other):
    early = train(models, steps=1, sample_with=other, preview=PREVIEW)
    shown = train(models, steps=2, run_name="longer", sample_with=other, preview=PREVIEW)[4]
    assert torch.equal(early[4], picture(*early[:2]))
    assert shown.shape[0] == 1, "resumed after step 1, so that the last picture is the only one"
    again = train(tiny_models(), steps=3, seed=2, sample_with=other, preview=PREVIEW)
    first = train(tiny_models(), steps=1, seed=2, sample_with=other)
    assert torch.equal(again[4][:1], picture(*first[:2]))


def test_a_loaded_run_is_sampled_and_handed_on_by_the_model_that_is_connected_now(models, other, monkeypatch):
    plain = train(models, preview=PREVIEW)
    monkeypatch.setattr(Trainer, "steps", lambda _: pytest.fail("trained again"))
    sampled = train(models, preview=PREVIEW, sample_with=other)
    assert "loaded 3 steps" in sampled[6] and equal(plain[2], sampled[2])
    assert torch.equal(sampled[4], picture(*sampled[:2])) and not torch.equal(sampled[4], plain[4][-1:])


def test_a_cancelled_run_goes_on_with_another_model_that_samples(models, other, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(comfy.model_management.InterruptProcessingException):
        CancelAt(patch, 2)
        train(models, sample_with=other, preview=PREVIEW)
    resumed = train(models, sample_with=tiny_models(seed=2)[0], preview=PREVIEW)
    assert "resumed from step 2" in resumed[6]
    use_store(tmp_path / "other", monkeypatch)
    assert equal(resumed[2], train(models)[2])


def test_a_lora_on_the_first_model_alone_acts_in_training_and_not_in_what_is_handed_on(models, tmp_path, monkeypatch):
    """The training adapter of a distilled checkpoint: both MODELs are one network, with and without it."""
    adapter = train(models, seed=9, learning_rate=1e-2, run_name="adapter")[2]
    with_adapter = (comfy.sd.load_lora_for_models(models[0], None, adapter, 1.0, 0.0)[0], *models[1:])
    with Untouched(models), Untouched(with_adapter):
        result = train(with_adapter, sample_with=models[0], preview=PREVIEW)
    expected = comfy.sd.load_lora_for_models(models[0], None, result[2], 1.0, 0.0)[0]
    assert torch.equal(sample(*result[:2]), sample(expected, models[1]))
    assert torch.equal(result[4][-1:], picture(expected, models[1]))
    use_store(tmp_path / "other", monkeypatch)
    assert equal(result[2], train(with_adapter)[2]), "previews without the adapter changed the training with it"
    use_store(tmp_path / "third", monkeypatch)
    assert not equal(result[2], train(models)[2]), "the training adapter did not act"


def test_a_training_adapter_is_part_of_the_runs_key_and_the_model_that_samples_is_not(models, other):
    lora = train(models, learning_rate=1e-2)[2]
    adapted = comfy.sd.load_lora_for_models(models[0], None, lora, 1.0, 0.0)[0]
    plain = make_plan(request(models), ()).key
    assert make_plan(request(models, sample_with=other), ()).key == plain
    assert make_plan(request((adapted, *models[1:]), sample_with=models[0]), ()).key != plain


@pytest.mark.parametrize(("best_by", "is_part"), [("dino", True), ("validation_loss", False), ("last", False)])
def test_the_model_that_samples_is_part_of_the_key_where_its_pictures_choose_the_step(models, other, best_by, is_part):
    keys = {make_plan(request(models, validation=validated(best_by), sample_with=model, preview=PREVIEW), ()).key
            for model in (None, other)}
    assert len(keys) == 1 + is_part


def test_pictures_that_are_validated_are_the_other_models(models, other, monkeypatch):
    seen = []
    monkeypatch.setattr(Colours, "embed_images", lambda _, pixels: (
        seen.append(pixels.clone()), pixels.reshape(len(pixels), -1, 3).mean(1))[1])
    result = train(models, steps=1, validation=validated("dino"), preview=PREVIEW, sample_with=other)
    sampled = picture(*result[:2])
    assert any(pixels.shape == sampled.shape and torch.equal(pixels, sampled) for pixels in seen)


def test_a_saved_file_on_the_model_that_samples_is_what_the_trainer_hands_on(models, other):
    model, clip, *_, result, _, _ = train(models, sample_with=other, options=TEXT_TOO)
    name = save_personalization(result, "paired").name
    loaded, loaded_clip, _, warnings = load_personalization(name, other, models[1], 1.0, 1.0)
    assert torch.equal(sample(loaded, loaded_clip), sample(model, clip))
    assert any("another base model" in warning for warning in warnings)


def test_a_model_in_eight_bits_samples_with_the_adapter_beside_its_weights(models):
    sampling = fp8_models()[0]
    model, clip, *_ = train(models, sample_with=sampling)
    assert not torch.equal(sample(model, clip), sample(sampling, clip))


@pytest.mark.parametrize(("refused", "message"), [
    (lambda: family_models("sd15")[0],
     r"sample_with: got a model with no layer output_blocks\.0\.1\.transformer_blocks\.0\.attn1\.to_q, expected"),
    (lambda: family_models("flux")[0],
     "sample_with: got a model of the kind Flux, Flux, expected one of the kind that is trained: .*UNetModel"),
    (lambda: upscaler_models()[0], "sample_with: got a model whose layer")])
def test_a_model_of_other_layers_is_refused_in_words_before_anything_is_loaded(models, monkeypatch, refused, message):
    refused = refused()
    for name in ("load_models_gpu", "load_model_gpu"):
        monkeypatch.setattr(comfy.model_management, name, lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match=message):
        train(models, sample_with=refused)


def network_like(network: torch.nn.Module, **changes: torch.nn.Module | None) -> SimpleNamespace:
    """A MODEL of a network's class with some layers replaced or left out."""
    other = type("UNetModel", (torch.nn.Module,), {})()
    for name, layer in network.named_children():
        if changes.get(name, layer) is not None:
            setattr(other, name, changes.get(name, layer))
    other.__class__ = type(network)
    return SimpleNamespace(model=SimpleNamespace(diffusion_model=other, model_config=SimpleNamespace()))


@pytest.mark.parametrize(("targets", "is_refused"), [("attention", False), ("all", True)])
def test_a_layer_that_one_of_them_lacks_matters_where_it_learns(models, targets, is_refused):
    """As guidance in Flux.1 dev, which schnell lacks."""
    sampling = network_like(models[0].model.diffusion_model, time_embed=None)
    kind = "full" if targets == "all" else "lora"
    options = TrainingOptions(adapter=AdapterConfig(kind=kind, targets=targets))
    asked = request(models, sample_with=sampling, options=options)
    if is_refused:
        with pytest.raises(InputError, match="sample_with: got a model with no layer time_embed.0"):
            check(asked)
    else:
        check(asked)


def test_another_prediction_is_warned_about(models):
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    sampling = ModelSamplingDiscrete().patch(models[0], "v_prediction", zsnr=False)[0]
    told = [warning for warning in warnings_about_run(request(models, sample_with=sampling)) if "predicts" in warning]
    assert told == ["the trained MODEL predicts epsilon, and the one that samples v_prediction: what is learned in the "
                    "one means little in the other. Sample with a checkpoint of the same prediction"]
    assert not any("predicts" in text for text in warnings_about_run(request(models, sample_with=tiny_models(1)[0])))


class SmallCard:
    """A card of simulated memory, that has room for one network and a bit: what lies on it at each request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *networks):
        sizes = [network.model_size() for network in networks]
        self.room, self.most = int(1.5 * max(sizes)), 0
        self.device = torch.device("cpu:0")
        for network in networks:
            network.load_device = self.device
        monkeypatch.setattr(comfy.model_management, "get_free_memory", self.free)
        monkeypatch.setattr(comfy.model_management, "minimum_inference_memory", lambda: 0)
        monkeypatch.setattr(comfy.model_management, "extra_reserved_memory", lambda: 0)

    def taken(self) -> int:
        return sum(loaded.model_loaded_memory() for loaded in comfy.model_management.current_loaded_models
                   if loaded.device == self.device)

    def free(self, device=None, torch_free_too=False):
        left = self.room - self.taken()
        return (left, left) if torch_free_too else left


def test_both_models_are_never_on_a_card_that_has_no_room_for_both(models, other, monkeypatch):
    comfy.model_management.unload_all_models()
    card = SmallCard(monkeypatch, models[0], other)
    seen, forward = [], type(models[0].model.diffusion_model).forward

    def watched(network, *args, **kwargs):
        seen.append((network is other.model.diffusion_model, card.taken()))
        return forward(network, *args, **kwargs)

    monkeypatch.setattr(type(models[0].model.diffusion_model), "forward", watched)
    for model in (models[0], other):
        monkeypatch.setattr(model, "memory_required", lambda *_, **__: 0)
    try:
        train(models, sample_with=other, preview=PREVIEW)
    finally:
        comfy.model_management.unload_all_models()
    assert {is_other for is_other, _ in seen} == {True, False}
    assert 0 < max(taken for _, taken in seen) <= card.room
