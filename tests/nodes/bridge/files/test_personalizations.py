"""What is saved can be loaded here, by stock ComfyUI and by diffusers; nothing else is let in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import comfy.sd
import comfy.utils
import pytest
import torch
from safetensors.torch import save_file
from tiny_model import tiny_models
from trainer_rig import equal, sample, train, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store.files import write_tensors
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.load_personalization import LoadPersonalization
from comfyui_personalize.nodes.save_personalization import SavePersonalization

pytestmark = pytest.mark.usefixtures("inference_mode")


@pytest.fixture(autouse=True)
def loras(tmp_path, monkeypatch) -> Path:
    use_store(tmp_path, monkeypatch)
    return tmp_path / "loras"


@pytest.fixture
def trained():
    models = tiny_models()
    return models, train(models, options=TrainingOptions(text_encoder_rate=1e-3), learning_rate=1e-2)


def save(personalization, name: str) -> Path:
    return Path(SavePersonalization.PREPARE_CLASS_CLONE(None).execute(personalization, name).result[0])


def load(name: str, model, clip, strength: float = 1.0):
    return LoadPersonalization.PREPARE_CLASS_CLONE(None).execute(name, model, clip, strength, strength).result


def test_loading_gives_the_trainers_own_picture_and_words(trained):
    models, outputs = trained
    save(outputs[5], "personalize/dog")
    model, clip, identifier, noun, report = load("personalize/dog.safetensors", *models[:2])
    assert torch.equal(sample(model, clip), sample(*outputs[:2]))
    assert (identifier, noun) == ("sks", "dog") and "Warning" not in report and "a sks dog" in report


def test_stock_lora_loader_gives_the_trainers_own_picture(trained):
    models, outputs = trained
    lora = comfy.utils.load_torch_file(str(save(outputs[5], "dog")), safe_load=True)
    stock = comfy.sd.load_lora_for_models(*models[:2], lora, 1.0, 1.0)
    assert float((sample(*stock) - sample(*outputs[:2])).abs().max()) <= 1e-3
    assert not torch.equal(sample(*stock), sample(*models[:2]))


def test_stock_save_lora_writes_the_same_tensors(trained, tmp_path):
    from comfy_extras.nodes_train import LossGraphNode, SaveLoRA

    _, outputs = trained
    SaveLoRA.execute(outputs[2], "loras/test", 3)
    written = next((tmp_path / "output" / "loras").glob("*.safetensors"))
    assert equal(comfy.utils.load_torch_file(str(written)), outputs[2])
    LossGraphNode.PREPARE_CLASS_CLONE(None).execute(outputs[3], "loss")


def test_diffusers_puts_every_layer_where_it_belongs(trained):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    outputs = trained[1]
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=64, attention_head_dim=2, sample_size=8,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2)
    path = save(outputs[5], "dog")
    with torch.inference_mode(False):
        lora, alphas = StableDiffusionPipeline.lora_state_dict(str(path), weight_name=path.name)
        StableDiffusionPipeline.load_lora_into_unet(lora, network_alphas=alphas, unet=unet)
    layers = {name: module for name, module in unet.named_modules() if hasattr(module, "lora_A")}
    stems = {name.rpartition(".lora_up")[0] for name in outputs[2] if ".lora_up" in name and "lora_unet" in name}
    assert {"lora_unet_" + name.replace(".", "_") for name in layers} == stems
    for name, layer in layers.items():
        stem = "lora_unet_" + name.replace(".", "_")
        assert torch.equal(next(iter(layer.lora_A.values())).weight, outputs[2][f"{stem}.lora_down.weight"])
        assert torch.equal(next(iter(layer.lora_B.values())).weight, outputs[2][f"{stem}.lora_up.weight"])
        assert next(iter(layer.scaling.values())) == 1.0
    text = [name for name in lora if name.startswith("text_encoder.")]
    assert len(text) == 2 * len({name.rpartition(".lora_up")[0] for name in outputs[2] if "lora_te" in name} - {""})


def test_equal_content_is_one_file_and_other_content_another(trained):
    models, outputs = trained
    first = save(outputs[5], "dog")
    assert save(outputs[5], "dog.safetensors") == first
    other = save(train(models, steps=1)[5], "dog")
    assert other.name == "dog-2.safetensors" and first.read_bytes() != other.read_bytes()


def test_the_file_says_everything_about_itself(trained):
    metadata = trained[1][5].metadata
    assert metadata["identifiers"] == ["sks"] and metadata["class_nouns"] == ["dog"] and metadata["steps"] == 3
    assert {"base_model_hash", "text_encoder_hash", "data_hash", "config", "readers", "version"} <= metadata.keys()
    assert "LoraLoader" in metadata["readers"] and "diffusers" in metadata["readers"]


def test_another_base_model_is_warned_about(trained):
    save(trained[1][5], "dog")
    report = load("dog.safetensors", *tiny_models(seed=1)[:2])[4]
    assert "Warning: this was trained on another base model" in report and "another text encoder" in report


def test_strength_zero_changes_nothing(trained):
    models, outputs = trained
    save(outputs[5], "dog")
    assert torch.equal(sample(*load("dog.safetensors", *models[:2], strength=0.0)[:2]), sample(*models[:2]))


@pytest.mark.parametrize("name", ["../dog", "/dog", "a/../dog", "", "con", "a//b", "C:/dog", "..\\dog"])
def test_names_that_lead_outside_are_refused(trained, name):
    assert "name: got" in str(SavePersonalization.validate_inputs(name))
    with pytest.raises(InputError, match="name: got"):
        save(trained[1][5], name)


def test_only_own_files_are_listed_and_all_others_refused(trained, loras):
    path = save(trained[1][5], "personalize/dog")
    save_file({"x": torch.zeros(1)}, loras / "foreign.safetensors")
    torch.save({"x": torch.zeros(1)}, loras / "pickled.pt")
    (loras / "corrupt.safetensors").write_bytes(path.read_bytes()[:-9])
    (loras / "garbage.safetensors").write_bytes(b"not a header at all")
    write_tensors(loras / "state.safetensors", {"x": torch.zeros(1)}, {"step": 1})
    schema = LoadPersonalization.define_schema()
    assert schema.inputs[0].options == ["personalize/dog.safetensors", "run: test"]
    assert LoadPersonalization.validate_inputs("personalize/dog.safetensors") is True
    for name, reason in {"foreign.safetensors": "another program", "pickled.pt": "pickled", "missing": "LoRA folders",
                         "corrupt.safetensors": "corrupt", "garbage.safetensors": "corrupt",
                         "state.safetensors": "no personalization", "../loras/x.safetensors": "LoRA folders"}.items():
        assert reason in str(LoadPersonalization.validate_inputs(name)), name
        with pytest.raises(InputError, match=reason):
            load(name, *trained[0][:2])


def test_a_changed_file_has_another_fingerprint(trained, loras):
    save(trained[1][5], "dog")
    before = LoadPersonalization.fingerprint_inputs("dog.safetensors", strength_model=1.0, strength_clip=1.0)
    assert before == LoadPersonalization.fingerprint_inputs("dog.safetensors")
    (loras / "dog.safetensors").write_bytes(b"changed")
    assert LoadPersonalization.fingerprint_inputs("dog.safetensors") != before


def test_another_family_is_refused(trained):
    models, outputs = trained
    lora = {"diffusion_model.double_blocks.0.x.lora_up.weight": torch.zeros(1, 1),
            "diffusion_model.double_blocks.0.x.lora_down.weight": torch.zeros(1, 1)}
    save(replace(outputs[5], lora=lora), "flux")
    with pytest.raises(InputError, match="a model with none of the layers"):
        load("flux.safetensors", *models[:2])
