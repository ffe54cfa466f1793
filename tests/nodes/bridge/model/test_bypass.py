"""Adapters beside the weights, as ComfyUI injects them: trained on top of, stacked, and never lost in silence."""

from __future__ import annotations

from dataclasses import replace

import comfy.sd
import pytest
import torch
from test_adapter_files import config, fp8_models, loaded_prediction, trained
from tiny_model import tiny_models
from trainer_rig import equal, sample, train, weights

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.files import personalizations as personalization_files
from comfyui_personalize.nodes.bridge.files.personalizations import load_personalization, save_personalization
from comfyui_personalize.nodes.bridge.output import runs_root
from comfyui_personalize.nodes.bridge.sampling.sampling import patched
from comfyui_personalize.nodes.bridge.text.encoder import encode

pytestmark = pytest.mark.usefixtures("inference_mode")

REFUSED = "model: got a model with a personalization that no weights can hold"


@pytest.fixture
def an_adapter():
    """The tensors of a random LoRA for the tiny model's attention."""
    model, clip, _ = tiny_models()
    return trained(model, encode(clip, "a sks dog"), config("lora"))[1]


def test_training_goes_on_top_of_a_bypassed_lora_as_on_a_merged_one(an_adapter):
    """In float32 both are the same function, so they teach the same adapter."""
    learned = []
    for load in (comfy.sd.load_bypass_lora_for_models, comfy.sd.load_lora_for_models):
        model, clip, vae = tiny_models()
        with_lora, _ = load(model, clip, an_adapter, 0.8, 0.0)
        before = sample(with_lora, clip)
        learned.append(train((with_lora, clip, vae), run_name=load.__name__)[2])
        assert torch.equal(sample(with_lora, clip), before)
    for name, tensor in learned[0].items():
        assert torch.allclose(tensor, learned[1][name], atol=2e-4), name


def test_the_base_model_is_untouched_by_training_through_a_bypassed_lora(an_adapter):
    model, clip, vae = tiny_models()
    before, plain = weights((model, clip)), sample(model, clip)
    train((comfy.sd.load_bypass_lora_for_models(model, clip, an_adapter, 0.8, 0.0)[0], clip, vae))
    assert equal(weights((model, clip)), before) and torch.equal(sample(model, clip), plain)


def test_one_trainer_after_the_other_on_an_fp8_model_teaches_both():
    model, clip = fp8_models()
    vae = tiny_models()[2]
    first = train((model, clip, vae), run_name="first")
    second = train((first[0], first[1], vae), run_name="second")
    assert second[3]["loss"][0] != first[3]["loss"][0]
    row = encode(clip, "a sks dog")
    both = patched(*patched(model, clip, first[2]), second[2])[0]
    assert torch.equal(loaded_prediction(second[0], row), loaded_prediction(both, row))


def saved(vae, models, name):
    """A personalization among the LoRAs, trained on these models."""
    result = train((*models, vae), run_name=name)[5]
    return str(save_personalization(result, name).relative_to(personalization_files.loras_folder()))


def test_two_personalizations_stand_on_one_fp8_model():
    models, vae = fp8_models(), tiny_models()[2]
    names = [saved(vae, models, name) for name in ("one", "two")]
    row = encode(models[1], "a sks dog")
    predictions, chain = [], models
    for name in [*names, names[0]]:
        chain = load_personalization(name, *chain, 1.0, 1.0)[:2]
        predictions.append(loaded_prediction(chain[0], row))
    assert not torch.equal(predictions[0], predictions[1]) and not torch.equal(predictions[1], predictions[2])


def test_training_goes_on_top_of_a_loaded_personalization_on_an_fp8_model():
    models, vae = fp8_models(), tiny_models()[2]
    loaded = load_personalization(saved(vae, models, "under"), *models, 1.0, 1.0)[:2]
    assert len(train((*loaded, vae), run_name="over")[3]["loss"]) == 3
    assert (runs_root() / "over").is_dir()


def test_a_file_for_other_layers_is_refused_on_an_fp8_model_with_a_personalization(monkeypatch):
    models, vae = fp8_models(), tiny_models()[2]
    name = saved(vae, models, "known")
    chain = load_personalization(name, *models, 1.0, 1.0)[:2]
    content = personalization_files.read_content(personalization_files.find_file(name))
    foreign = {f"lora_unet_elsewhere_{key}": tensor for key, tensor in content.tensors.items()}
    monkeypatch.setattr(personalization_files, "read_content", lambda path: replace(content, tensors=foreign))
    with pytest.raises(InputError, match="got a model with none of the layers of"):
        load_personalization(name, *chain, 1.0, 1.0)


def merged(first, second, ratio=0.0):
    from comfy_extras.nodes_model_merging import ModelMergeSimple

    return ModelMergeSimple().merge(first, second, ratio)[0]


def check_is_merged(model, row, plain, expected):
    """It predicts what the model with a stock LoRA in its weights does, but for what is rounded in 8 bits."""
    got = loaded_prediction(model, row)
    assert float((got - expected).norm()) < 0.25 * float((plain - expected).norm())


@pytest.fixture
def on_fp8(an_adapter):
    """An fp8 MODEL, the same with a personalization, a prompt, and predictions of the MODEL plain and with a stock
    LoRA."""
    model, clip = fp8_models()
    row = encode(clip, "a sks dog")
    strong = {name: 4 * tensor if name.endswith("alpha") else tensor for name, tensor in an_adapter.items()}
    stock = comfy.sd.load_lora_for_models(model, None, strong, 1.0, 0.0)[0]
    on_top = patched(model, clip, strong)[0]
    return model, on_top, row, loaded_prediction(model, row), loaded_prediction(stock, row)


def test_an_fp8_model_is_merged_with_its_personalization(on_fp8):
    model, on_top, row, *predictions = on_fp8
    whole = merged(model, on_top.clone())
    check_is_merged(whole, row, *predictions)
    assert not whole.injections
    into = merged(on_top, model, 1.0)
    check_is_merged(into, row, *predictions)
    assert not into.injections and on_top.injections


def test_an_fp8_model_is_merged_with_each_of_its_personalizations(on_fp8, an_adapter):
    model, on_top, *_ = on_fp8
    both = patched(on_top, None, an_adapter)[0]
    whole, one = merged(model, both), merged(model, on_top)
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    patches = {name: whole.patches[key][0][1] if name == "both" else one.patches[key][0][1] for name in ("both", "one")}
    assert (len(patches["both"]), len(patches["one"])) == (3, 2)


def test_an_fp8_model_is_saved_with_its_personalization(on_fp8, tmp_path):
    _, on_top, row, *predictions = on_fp8
    file = tmp_path / "model.safetensors"
    comfy.sd.save_checkpoint(str(file), on_top)
    options = {"dtype": torch.float8_e4m3fn}
    check_is_merged(comfy.sd.load_checkpoint_guess_config(str(file), model_options=options)[0], row, *predictions)
    assert on_top.injections


def test_what_cannot_be_added_to_weights_is_refused_to_who_merges_or_saves_them(an_adapter, tmp_path):
    model, clip = fp8_models()
    below = comfy.sd.load_bypass_lora_for_models(model, None, an_adapter, 1.0, 0.0)[0]
    for on_top in (patched(below, clip, an_adapter)[0], patched(model, clip, an_adapter, min_rank=1)[0]):
        for first, second in ((model, on_top), (on_top, model)):
            with pytest.raises(InputError, match=REFUSED):
                merged(first, second)
        with pytest.raises(InputError, match=REFUSED):
            comfy.sd.save_checkpoint(str(tmp_path / "model.safetensors"), on_top)
    assert not list(tmp_path.iterdir())


def test_another_lora_goes_on_a_personalized_fp8_model(an_adapter):
    model, clip = fp8_models()
    on_top = patched(model, clip, an_adapter)[0]
    assert comfy.sd.load_lora_for_models(on_top, None, an_adapter, 0.5, 0.0)[0].patches


def test_merging_a_model_in_16_or_32_bits_keeps_the_personalization(an_adapter):
    model, clip, _ = tiny_models()
    row = encode(clip, "a sks dog")
    on_top = patched(model, clip, an_adapter)[0]
    assert torch.allclose(loaded_prediction(merged(model, on_top), row), loaded_prediction(on_top, row), atol=1e-5)


def test_the_text_encoder_of_an_fp8_model_is_patched_as_usual():
    """It is stored in 16 bits, so its adapter stands in the weights, where saving and merging find it."""
    model, clip = fp8_models()
    tensors = {f"lora_te1_text_model_encoder_layers_0_mlp_fc1.{name}": tensor for name, tensor in (
        ("lora_up.weight", torch.ones(128, 1)), ("lora_down.weight", torch.ones(1, 64)), ("alpha", torch.tensor(1.0)))}
    after = patched(model, clip, tensors)[1].patcher
    assert after.patches and not after.injections
