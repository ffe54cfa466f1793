"""The image-text encoder from stock loaders and from a folder: same vectors, gradients, and what is refused."""

from __future__ import annotations

import comfy.clip_vision
import comfy.sd
import folder_paths
import nodes as stock
import pytest
import torch
from run_node import run_node
from safetensors.torch import save_file
from tiny_model import TEXT_CONFIG, tiny_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.text.image_text import ComfyImageText, choose_text_side
from comfyui_personalize.nodes.image_text_encoder import ImageTextEncoder
from comfyui_personalize.pocket import image_text
from comfyui_personalize.pocket.comfyui.registration import register_pocket

PROMPTS = ["a red dog on the beach", "a cat", "a sks teapot wearing a hat in the snow"]

if not image_text.IMAGE_TEXT_FILE.exists() or not image_text.CHECKPOINT.exists():
    pytest.skip("lacks the pocket model's files", allow_module_level=True)


@pytest.fixture(scope="module")
def towers():
    """What stock CLIPVisionLoader and CheckpointLoaderSimple give for the pocket files."""
    register_pocket()
    with torch.inference_mode():
        vision = stock.CLIPVisionLoader().load_clip("pocket_clip.safetensors")[0]
        clip = stock.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")[1]
    return vision, clip


@pytest.fixture(scope="module")
def encoder(towers):
    return run_node(ImageTextEncoder, clip_vision=towers[0], clip=towers[1], path="")[0]


def test_the_stock_loader_lists_and_reads_the_image_tower(towers):
    assert "pocket_clip.safetensors" in folder_paths.get_filename_list("clip_vision")
    assert not any("expanded" in name for name in folder_paths.get_filename_list("clip_vision"))
    with torch.inference_mode():
        assert stock.CLIPVisionEncode().encode(towers[0], torch.rand(1, 96, 96, 3), "center")[0]["image_embeds"].shape \
            == (1, 128)


def test_other_image_towers_go_to_the_stock_loader(tmp_path):
    register_pocket()
    register_pocket()
    assert comfy.clip_vision.load_clipvision_from_sd({"something": torch.zeros(1)}) is None
    assert not hasattr(comfy.clip_vision.load_clipvision_from_sd.__wrapped__, "knows_pocket")


def test_both_ways_to_load_it_give_the_same_vectors(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(image_text, "EXPANDED", tmp_path / "expanded")
    by_path = run_node(ImageTextEncoder, path="pocket")[0]
    again = run_node(ImageTextEncoder, path=str(tmp_path / "expanded"))[0]
    pixels = torch.rand(2, 120, 96, 3)
    for other in (by_path, again):
        torch.testing.assert_close(other.embed_images(pixels), encoder.embed_images(pixels), atol=2e-3, rtol=0)
        torch.testing.assert_close(other.embed_texts(PROMPTS), encoder.embed_texts(PROMPTS), atol=2e-3, rtol=0)
        assert other.tokenize("a sks dog") == encoder.tokenize("a sks dog")
        torch.testing.assert_close(other.token_vectors("a sks dog"), encoder.token_vectors("a sks dog"))


def test_a_folder_that_cannot_be_written_is_made_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(image_text, "EXPANDED", tmp_path / "file" / "below")
    monkeypatch.setattr(image_text.tempfile, "gettempdir", lambda: str(tmp_path))
    made = image_text.transformers_folder()
    assert made.parent == tmp_path and (made / "model.safetensors").exists()
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert image_text.transformers_folder() == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before


def test_gradients_reach_learned_vectors_through_weights_that_comfyui_loaded(encoder):
    with torch.inference_mode(False), torch.enable_grad():
        vectors = torch.randn(2, encoder.token_width, requires_grad=True)
        rows = [[*vectors, *encoder.tokenize("dog")], encoder.tokenize("a cat")]
        embedded = encoder.embed_tokens(rows)
        (embedded[0] @ embedded[1]).backward()
    assert bool((vectors.grad.abs().sum(-1) > 0).all())
    torch.testing.assert_close(embedded.norm(dim=-1), torch.ones(2))
    assert all(parameter.grad is None for parameter in encoder.module.parameters())


def test_a_graph_changes_no_value_and_leaves_the_clip_as_it_was(encoder, towers):
    row = [encoder.tokenize("a dog")]
    plain = encoder.embed_tokens(row)
    with torch.inference_mode(False), torch.enable_grad():
        graph = encoder.embed_tokens(row).detach()
    torch.testing.assert_close(plain, graph, atol=1e-5, rtol=0)
    with torch.inference_mode():
        again = stock.CLIPTextEncode().encode(towers[1], "a dog")[0][0][0]
    assert bool(again.isfinite().all())
    assert not any("forward" in vars(layer) for layer in encoder.module.modules())


def test_gradients_reach_adapters_in_the_loaded_text_encoder(encoder):
    from peft import LoraConfig, inject_adapter_in_model

    from comfyui_personalize.nodes.bridge.model.gradients import replace_inference_tensors

    clip = tiny_with_projection(torch.randn(TEXT_CONFIG["hidden_size"], TEXT_CONFIG["hidden_size"]))
    text = ComfyImageText.__new__(ComfyImageText)
    text.clip, text.key, text.token_width = clip, "l", TEXT_CONFIG["hidden_size"]
    with torch.inference_mode(False), torch.enable_grad():
        replace_inference_tensors(text.module)
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False), text.module)
        adapters = [p.requires_grad_(True) for name, p in text.module.named_parameters() if "lora_" in name]
        text.embed_texts(["a dog"])[0, 0].backward()
    assert adapters and all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapters)


def tiny_with_projection(matrix):
    clip = tiny_models()[1]
    clip.patcher.cached_patcher_init = None  # as if some other node pack had loaded it, whose file nobody knows
    layer = clip.cond_stage_model.clip_l.transformer.text_projection
    layer.weight = None if matrix is None else torch.nn.Parameter(matrix, requires_grad=False)
    return clip


@pytest.mark.parametrize("matrix, flaw", [
    (torch.zeros(64, 64), "zeros"), (torch.eye(64), "identity"), (None, "no projection"),
    (torch.full((64, 64), torch.inf), "finite")])
def test_a_clip_without_a_trained_projection_is_refused(towers, matrix, flaw):
    with pytest.raises(InputError, match=f"clip: got clip_l: .*{flaw}.*expected a CLIP with both projections"):
        ComfyImageText(towers[0], tiny_with_projection(matrix))


@pytest.mark.parametrize("remains", [0.0, 1.0])
def test_a_stable_diffusion_checkpoints_clip_is_refused_whatever_memory_held(towers, remains):
    """The loader drops the projection, and fills the layer with nothing: zeros, or weights that were freed before."""
    clip = tiny_models()[1]
    clip.cond_stage_model.clip_l.transformer.text_projection.weight = torch.nn.Parameter(
        remains * torch.randn(64, 64), requires_grad=False)
    with pytest.raises(InputError, match="projection that its file does not hold" if remains else "zeros"):
        ComfyImageText(towers[0], clip)


def test_towers_of_two_joint_spaces_are_refused(towers):
    with pytest.raises(InputError, match="a joint space of 64 dimensions for images of 128"):
        ComfyImageText(towers[0], tiny_with_projection(torch.randn(64, 64)))


def test_a_vision_model_without_projection_is_refused(towers):
    class Bare:
        model = torch.nn.Module()

    with pytest.raises(InputError, match="clip_vision: got no projection"):
        ComfyImageText(Bare(), towers[1])


@pytest.mark.parametrize("inputs, message", [
    ({"path": ""}, "clip_vision and clip: got nothing"),
    ({"path": "no such folder"}, "an existing folder"),
])
def test_what_is_missing_is_named(inputs, message):
    with pytest.raises(InputError, match=message):
        run_node(ImageTextEncoder, **inputs)


def test_a_path_and_towers_together_are_refused(towers):
    with pytest.raises(InputError, match="a path beside connected towers"):
        run_node(ImageTextEncoder, path="pocket", clip_vision=towers[0])


def test_a_wrong_path_is_refused_when_the_graph_is_queued():
    assert "an existing folder" in ImageTextEncoder.validate_inputs("nowhere")
    assert ImageTextEncoder.validate_inputs("pocket") is True and ImageTextEncoder.validate_inputs("") is True


@pytest.mark.parametrize("has_projection", [True, False])
def test_a_clip_l_file_is_accepted_exactly_if_it_holds_a_projection(tmp_path, has_projection):
    layer = "text_model.encoder.layers.0.mlp.fc1.weight"
    weights = {layer: torch.zeros(3072, 768).half()}
    if has_projection:
        weights["text_projection.weight"] = torch.randn(768, 768).half()
    save_file(weights, tmp_path / "clip_l.safetensors")
    clip = comfy.sd.load_clip([str(tmp_path / "clip_l.safetensors")])
    if has_projection:
        assert choose_text_side(clip, 768) == "l"
    else:
        clip.cond_stage_model.clip_l.transformer.text_projection.weight.data.normal_()
        with pytest.raises(InputError, match="its file does not hold"):
            choose_text_side(clip, 768)
