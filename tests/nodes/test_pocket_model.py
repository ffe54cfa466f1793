"""The pocket checkpoint in stock nodes: recognised, listed, sampled, saved and loaded again."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import comfy.sd
import comfy.utils
import folder_paths
import nodes as stock
import pytest
import torch
from comfy import supported_models
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy_extras.nodes_model_merging import CheckpointSave
from run_node import run_node
from tiny_model import tiny_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.training.config import TrainingConfig
from comfyui_personalize.nodes.bridge.model.families import trained_at
from comfyui_personalize.nodes.bridge.text.vocabulary import trained_names, unknown_words
from comfyui_personalize.nodes.bridge.training.checks import warnings_about_contexts
from comfyui_personalize.nodes.identifier_picker import IdentifierPicker
from comfyui_personalize.pocket import config
from comfyui_personalize.pocket.comfyui.model import PocketModel
from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket

CHECKPOINT = CHECKPOINTS / "pocket.safetensors"


def registered():
    return [known for known in supported_models.models if known.__name__ == "PocketModel"]


def test_registration_is_idempotent():
    for _ in range(2):
        register_pocket()
    assert len(registered()) == 1
    assert folder_paths.get_folder_paths("checkpoints").count(str(CHECKPOINTS)) == 1


def test_no_stock_model_is_mistaken_for_the_pocket_model():
    module = supported_models.__name__
    stock_classes = [known for known in supported_models.models if known.__module__ == module]
    pocket = PocketModel.unet_config
    assert not any(known.matches(pocket) for known in stock_classes)
    assert not any(PocketModel.matches(known.unet_config) for known in stock_classes)


@pytest.fixture(scope="module")
def loaded():
    if not CHECKPOINT.exists():
        pytest.skip("lacks pocket/checkpoints/pocket.safetensors")
    register_pocket()
    with torch.inference_mode():
        return stock.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")


def sample(model, clip):
    """Stock nodes, as in everybody's first workflow."""
    with torch.inference_mode():
        encode = stock.CLIPTextEncode().encode
        positive, negative = encode(clip, "a red dog on the beach")[0], encode(clip, "")[0]
        latent = stock.EmptyLatentImage().generate(config.SIZE, config.SIZE, 1)[0]
        return stock.KSampler().sample(model, 1, 2, 4.0, "euler", "normal", positive, negative, latent)[0]


def test_the_loader_lists_the_checkpoint(loaded):
    assert "pocket.safetensors" in folder_paths.get_filename_list("checkpoints")


def test_stock_nodes_make_a_picture(loaded):
    model, clip, vae = loaded
    latent = sample(model, clip)
    cells = config.SIZE // config.DOWNSCALE
    assert latent["samples"].shape == (1, config.LATENT_CHANNELS, cells, cells)
    with torch.inference_mode():
        picture = stock.VAEDecode().decode(vae, latent)[0]
    assert picture.shape == (1, config.SIZE, config.SIZE, 3) and bool(picture.isfinite().all())


def test_it_is_neither_an_inpainting_model_nor_a_stock_one(loaded):
    model, clip, _ = loaded
    assert type(model.model.model_config).__name__ == "PocketModel"
    assert model.model.concat_keys == ()
    assert model.model.latent_format.latent_channels == config.LATENT_CHANNELS
    assert clip.cond_stage_model.clip_l.transformer.num_layers == config.TEXT_CONFIG["num_hidden_layers"]


def test_a_checkpoint_of_the_first_pocket_model_is_refused_in_one_sentence(tmp_path):
    register_pocket()
    with torch.device("meta"):
        first = UNetModel(image_size=12, in_channels=16, out_channels=16, model_channels=64, num_res_blocks=[1, 1, 1],
                          channel_mult=[1, 2, 3], num_head_channels=32, use_spatial_transformer=True, context_dim=128,
                          transformer_depth=[0, 1, 1], transformer_depth_middle=1, legacy=False,
                          transformer_depth_output=[0, 0, 1, 1, 1, 1])
    state = {f"model.diffusion_model.{key}": torch.zeros(value.shape, dtype=torch.float16)
             for key, value in first.state_dict().items()}
    comfy.utils.save_torch_file(state, str(tmp_path / "first.safetensors"))
    with pytest.raises(InputError, match="got one of the first pocket model.*Train your subject again"):
        comfy.sd.load_checkpoint_guess_config(str(tmp_path / "first.safetensors"))


def test_its_own_resolution_is_known(loaded):
    assert trained_at(loaded[0]) == (96, 96)


def test_the_picker_leaves_out_the_names_that_the_pocket_model_knows(loaded):
    names = trained_names(loaded[1])
    settings = {"class_noun": "dog", "tokens": 1, "seed": 0, "candidates": 64, "avoid": ""}
    _, report, _ = run_node(IdentifierPicker, clip=loaded[1], **settings)
    picked = {row.split()[1] for row in report.splitlines()[4:68]}
    assert len(picked) == 64 and len(names) > 100 and not picked & names


def test_every_tensor_of_the_file_is_used(loaded, caplog):
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        comfy.sd.load_checkpoint_guess_config(str(CHECKPOINT))
    assert "missing" not in caplog.text and "unet unexpected" not in caplog.text


def test_a_saved_checkpoint_is_recognised_and_samples_the_same(loaded, tmp_path):
    model, clip, vae = loaded
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    try:
        with torch.inference_mode():
            CheckpointSave().save(model, clip, vae, "again")
            again = comfy.sd.load_checkpoint_guess_config(str(next(tmp_path.glob("again*.safetensors"))))
    finally:
        folder_paths.set_output_directory(before)
    assert torch.equal(sample(*again[:2])["samples"], sample(model, clip)["samples"])


def test_the_pocket_knows_which_words_its_captions_never_had(loaded):
    assert unknown_words(loaded[1], ("a", "of", "on", "photo", ".", "dog", "quantum", "sks")) == ("quantum", "sks")


def test_nothing_is_said_of_words_where_a_table_shows_nothing():
    assert unknown_words(tiny_models()[1], ("a", "of")) == ()


@pytest.mark.parametrize(("objective", "said"), [
    (LearnedContexts(prefix_words="quantum"), "contexts start from 'quantum', which this text encoder was never"),
    (LearnedContexts(), ""), (LearnedContexts(prefix_words="quantum", start="random"), "")])
def test_contexts_that_start_from_words_the_pocket_does_not_know_are_warned_about(loaded, objective, said):
    request = SimpleNamespace(clip=loaded[1], config=TrainingConfig(steps=1, objectives=(objective,)))
    warnings = warnings_about_contexts(request)
    assert len(warnings) == bool(said) and all(said in warning for warning in warnings)
