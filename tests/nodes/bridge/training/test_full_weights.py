"""All weights train inside the loaded models, which stay as they were; the result is a checkpoint or a difference."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import folder_paths
import pytest
import torch
from comfy_extras.nodes_model_merging import CheckpointSave
from tiny_model import tiny_models
from trainer_rig import CancelAt, Untouched, equal, sample, train

from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.core.training.optimizer import choose_optimizer
from comfyui_personalize.core.training.trained_parameters import DENOISER, adapter_configs
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.bridge.training.what_trains import full_weights_memory

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
ALL = AdapterConfig(kind="full", targets="all")
OPTIONS = TrainingOptions(adapter=ALL, text_encoder_rate=1e-3)


@pytest.fixture
def models():
    return tiny_models()


def test_every_weight_of_both_networks_trains_and_the_loaded_models_stay_as_they_were(models):
    with Untouched(models):
        outputs = train(models, options=OPTIONS)
    names = outputs[2].keys()
    assert any("norm1.diff" in name or "norm" in name and name.endswith(".diff_b") for name in names)
    assert {"lora_unet_conv_in.diff", "lora_unet_conv_out.diff_b", "lora_unet_time_embedding_linear_1.diff"} <= names
    assert "text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.diff" in names
    assert not torch.allclose(sample(*outputs[:2]), sample(*models[:2]), atol=1e-3)


def test_a_saved_checkpoint_loads_in_stock_comfyui_with_the_same_pictures(models, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    outputs = train(models, options=OPTIONS)
    CheckpointSave().save(outputs[0], outputs[1], models[2], "checkpoints/mine")
    expected = sample(*outputs[:2])
    comfy.model_management.unload_all_models()
    (file,) = (tmp_path / "checkpoints").glob("*.safetensors")
    loaded = comfy.sd.load_checkpoint_guess_config(str(file))[:3]
    torch.testing.assert_close(sample(*loaded[:2]), expected, atol=2e-2, rtol=2e-2)  # the file is in half precision
    assert not torch.allclose(sample(*models[:2]), expected, atol=0.1)


def test_the_difference_loads_by_stock_loraloader_with_the_same_pictures(models):
    outputs = train(models, options=OPTIONS)
    stock = comfy.sd.load_lora_for_models(*models[:2], dict(outputs[2]), 1.0, 1.0)
    assert torch.equal(sample(*stock), sample(*outputs[:2]))


def test_a_cancelled_run_goes_on_to_the_same_bits(models, monkeypatch):
    whole = train(models, options=OPTIONS, run_name="whole")
    with monkeypatch.context() as cancelled:
        CancelAt(cancelled, 2)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            train(models, options=OPTIONS, run_name="stopped", seed=2, steps=4)
    stopped = train(models, options=OPTIONS, run_name="stopped", seed=2, steps=4)
    assert "resumed from step 2" in stopped[6]
    again = train(tiny_models(), options=OPTIONS, run_name="again", seed=2, steps=4)
    assert "4 steps" in again[6] and equal(again[2], stopped[2]) and not equal(whole[2], stopped[2])


def test_previews_on_the_way_change_nothing(models):
    plain = train(models, options=OPTIONS)
    preview = PreviewSettings(prompt="a sks dog", every=1, steps=1)
    shown = train(models, options=OPTIONS, preview=preview, run_name="shown", seed=1, batch=1)
    assert equal(plain[2], shown[2])


def test_keys_and_values_alone_train_as_custom_diffusion_has_it(models):
    options = TrainingOptions(adapter=AdapterConfig(kind="full", targets="cross_attention_kv"))
    names = train(models, options=options)[2].keys()
    assert names and all("attn2_to_k" in name or "attn2_to_v" in name for name in names)


def test_the_memory_that_is_asked_for_counts_copies_gradients_and_state(models):
    def memory(**options):
        chosen = TrainingOptions(**options)
        return full_weights_memory({DENOISER: models[0].model.diffusion_model}, adapter_configs(chosen),
                                   choose_optimizer(chosen, "cpu"))

    parameters = sum(value.numel() for value in models[0].model.diffusion_model.parameters())
    assert memory() == 0 and memory(adapter=ALL) == 8 * parameters
    assert memory(adapter=ALL, optimizer="adamw") == 16 * parameters
