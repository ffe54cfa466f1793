"""What export writes in stock nodes, with networks that were not trained: mechanics, not pictures."""

from __future__ import annotations

import logging

import comfy.clip_vision
import comfy.sd
import nodes as stock
import pytest
import torch
from comfy import model_base

from comfyui_personalize.pocket import config
from comfyui_personalize.pocket.comfyui.image_tower import register_image_tower
from comfyui_personalize.pocket.comfyui.model import PocketModel, register_model
from comfyui_personalize.pocket.export import trained_networks, write_checkpoint
from comfyui_personalize.pocket.image_text import save_image_text
from comfyui_personalize.pocket.image_text_training import ImageTextEncoder
from comfyui_personalize.pocket.names import individual_names
from comfyui_personalize.pocket.rows import counter_rows
from comfyui_personalize.pocket.state import load_state
from comfyui_personalize.pocket.tokens import vocabulary


@pytest.fixture(scope="module")
def networks():
    generator, autoencoder = trained_networks({})
    with torch.no_grad():
        for parameter in generator.parameters():  # residuals start at zero and would hide what they read
            parameter.copy_((parameter + 0.03 * torch.randn(parameter.shape)).half())
    return generator, autoencoder


@pytest.fixture(scope="module")
def loaded(networks, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "pocket.safetensors"
    write_checkpoint(path, *networks, facts={})
    register_model()
    with torch.inference_mode():
        return comfy.sd.load_checkpoint_guess_config(str(path))[:3]


def test_it_is_recognised_with_velocity_prediction_and_every_tensor_is_used(loaded, networks, tmp_path, caplog):
    model, clip, _ = loaded
    assert type(model.model.model_config) is PocketModel
    assert model.model.model_type == model_base.ModelType.V_PREDICTION and model.model.concat_keys == ()
    assert clip.cond_stage_model.clip_l.transformer.num_layers == config.TEXT_LAYERS
    path = tmp_path / "again.safetensors"
    write_checkpoint(path, *networks, facts={})
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        comfy.sd.load_checkpoint_guess_config(str(path))
    assert "missing" not in caplog.text and "unexpected" not in caplog.text


def test_comfyuis_network_is_the_trained_one(loaded, networks):
    latents, timesteps, context = torch.randn(2, 16, 12, 12), torch.tensor([10, 900]), torch.randn(2, 77, 128)
    with torch.inference_mode():
        found = loaded[0].model.diffusion_model(latents, timesteps.float(), context=context)
        wanted = networks[0].unet(latents, timesteps, context)
    assert (found - wanted).abs().max() < 0.005 * wanted.std()


def test_comfyuis_prompt_is_the_trained_one(loaded, networks):
    caption = "a photo of a red dog next to a blue car, in the snow."
    with torch.inference_mode():
        found = stock.CLIPTextEncode().encode(loaded[1], caption)[0][0][0]
        wanted = networks[0].text.encode([caption])
    assert (found - wanted).abs().max() < 0.01


def test_the_loaded_table_has_trained_rows_and_counter_rows(loaded, networks):
    table = loaded[1].cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    words = networks[0].text.words
    assert torch.equal(table[words.ids[:words.learned]].float(), networks[0].text.learned_rows.detach())
    names = words.ids[words.learned:]
    assert torch.equal(table[names].float(), counter_rows(names))


def test_stock_nodes_sample_and_decode_a_picture(loaded):
    model, clip, vae = loaded
    with torch.inference_mode():
        encode = stock.CLIPTextEncode().encode
        positive, negative = encode(clip, "a red dog on the beach")[0], encode(clip, "")[0]
        latent = stock.EmptyLatentImage().generate(config.SIZE, config.SIZE, 1)[0]
        latent = stock.KSampler().sample(model, 1, 2, 4.0, "euler", "normal", positive, negative, latent)[0]
        picture = stock.VAEDecode().decode(vae, latent)[0]
    assert latent["samples"].shape == (1, config.LATENT_CHANNELS, config.CELLS, config.CELLS)
    assert picture.shape == (1, config.SIZE, config.SIZE, 3) and bool(picture.isfinite().all())


def test_comfyuis_autoencoder_is_the_trained_one(loaded, networks):
    pictures = torch.rand(1, config.SIZE, config.SIZE, 3)
    with torch.inference_mode():
        found = loaded[2].encode(pictures)
        wanted = networks[1].encode(pictures.permute(0, 3, 1, 2))
    assert (found - wanted).abs().max() < 0.02


def test_no_state_is_an_empty_one(tmp_path):
    assert load_state(tmp_path / "none") == {}


def test_it_gets_the_text_projection_of_the_image_text_encoder(networks, tmp_path, monkeypatch):
    from comfyui_personalize.pocket import image_text

    def load(name):
        write_checkpoint(tmp_path / name, *networks, facts={})
        with torch.inference_mode():
            clip = comfy.sd.load_checkpoint_guess_config(str(tmp_path / name))[1]
        return clip.cond_stage_model

    own = torch.randn(config.CONTEXT_DIM, config.CONTEXT_DIM).half()
    monkeypatch.setattr(image_text, "text_projection", lambda: own)
    encoder = load("own.safetensors")
    assert torch.equal(encoder.clip_l.transformer.text_projection.weight.half().cpu(), own)
    assert encoder.has_projection()
    monkeypatch.setattr(image_text, "text_projection", lambda: None)
    assert not encoder.has_projection()


def test_it_knows_the_words_of_its_world_and_its_names(loaded):
    encoder = loaded[1].cond_stage_model
    words = vocabulary()
    assert encoder.was_taught([words.ids[5].item(), words.ids[-1].item()]) and not encoder.was_taught([7])
    assert {word for name in individual_names() for word in name.split()} == encoder.trained_names()


def test_stock_clip_vision_reads_the_image_tower_as_training_knew_it(tmp_path):
    register_image_tower()
    torch.manual_seed(0)
    encoder = ImageTextEncoder().eval()
    path = tmp_path / "clip.safetensors"
    save_image_text(encoder.vision.state_dict(), encoder.text_projection.weight, encoder.logit_scale[0], path)
    stock_tower, pictures = comfy.clip_vision.load(str(path)), torch.rand(2, 96, 96, 3)
    with torch.inference_mode():
        found = stock_tower.encode_image(pictures)["image_embeds"]
        wanted = encoder.embed_images(pictures.permute(0, 3, 1, 2))
    torch.testing.assert_close(torch.nn.functional.normalize(found.float().cpu(), dim=-1), wanted, atol=5e-3, rtol=0)
