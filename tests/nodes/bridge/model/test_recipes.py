"""Each family's recipe is found for a network of that family, by ComfyUI's own classes and loader."""

from __future__ import annotations

import comfy.samplers
import comfy.sd
import comfy.supported_models as known
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from families import FAMILIES, family_models
from tiny_model import tiny_checkpoint, tiny_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training.recipe_files import FOLDER, ModelFacts, read_recipe, recipe
from comfyui_personalize.nodes.bridge.model.recipes import facts_of, file_of, recipe_of

pytestmark = pytest.mark.usefixtures("own_recipe")

TEXT = 64
FLUX = {"image_model": "flux", "in_channels": 16, "out_channels": 16, "hidden_size": 256, "num_heads": 2,
        "axes_dim": [16, 56, 56], "mlp_ratio": 4.0, "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
        "context_in_dim": TEXT, "vec_in_dim": TEXT, "patch_size": 2, "depth": 1, "depth_single_blocks": 1}
DEV = FLUX | {"guidance_embed": True, "yak_mlp": False, "txt_norm": False}
FLUX2 = DEV | {"image_model": "flux2", "axes_dim": [32, 32, 32, 32], "mlp_ratio": 3.0, "theta": 2000,
               "out_channels": 128, "in_channels": 128, "global_modulation": True, "mlp_silu_act": True,
               "qkv_bias": False, "ops_bias": False, "txt_ids_dims": [3], "patch_size": 1, "vec_in_dim": None}
CHROMA = FLUX | {"image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 256,
                 "hidden_dim": 128, "n_layers": 2, "vec_in_dim": None}
LUMINA = {"image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 192, "cap_feat_dim": TEXT,
          "n_layers": 1, "qk_norm": True, "n_heads": 2, "n_kv_heads": 1, "axes_dims": [32, 32, 32],
          "axes_lens": [300, 512, 512], "rope_theta": 10000.0, "ffn_dim_multiplier": 4.0, "n_refiner_layers": 1}
Z_IMAGE = LUMINA | {"dim": 256, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "z_image_modulation": True,
                    "time_scale": 1000.0, "pad_tokens_multiple": 32}
ANIMA = {"image_model": "anima", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16,
         "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 256, "num_blocks": 1,
         "concat_padding_mask": True, "crossattn_emb_channels": 1024, "pos_emb_cls": "rope3d", "num_heads": 2,
         "use_adaln_lora": True, "adaln_lora_dim": 32}
KREA = {"image_model": "krea2", "features": 256, "channels": 16, "patch": 2, "layers": 1, "heads": 2, "kvheads": 1,
        "txtlayers": 2, "txtdim": TEXT, "txtheads": 1, "txtkvheads": 1}
HIDREAM = {"image_model": "hidream", "attention_head_dim": 128, "axes_dims_rope": [64, 32, 32],
           "caption_channels": [TEXT, TEXT], "max_resolution": [128, 128], "in_channels": 16, "llama_layers": [0, 1],
           "num_attention_heads": 2, "num_routed_experts": 4, "num_activated_experts": 2, "num_layers": 1,
           "num_single_layers": 1, "out_channels": 16, "patch_size": 2, "text_emb_dim": TEXT}
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 1, "num_attention_heads": 2,
        "joint_attention_dim": TEXT}
ERNIE = {"image_model": "ernie", "hidden_size": 256, "num_attention_heads": 2, "num_layers": 1,
         "ffn_hidden_size": 256, "text_in_dim": TEXT}
NETWORKS = {
    "Flux.1 dev": (known.Flux, DEV, ""), "Flux.1 Krea dev": (known.Flux, DEV, "flux1-krea-dev.safetensors"),
    "Flux.1 Kontext dev": (known.Flux, DEV, "flux1-dev-kontext.safetensors"),
    "Flux.1 schnell": (known.FluxSchnell, DEV | {"guidance_embed": False}, ""),
    "Flux.2 dev": (known.Flux2, FLUX2, ""),
    "Flux.2 klein base": (known.Flux2, FLUX2 | {"guidance_embed": False}, "flux-2-klein-base-9b.safetensors"),
    "Flux.2 klein (distilled)": (known.Flux2, FLUX2 | {"guidance_embed": False}, "flux-2-klein-9b.safetensors"),
    "Krea 2 Raw": (known.Krea2, KREA, ""), "Krea 2 Turbo": (known.Krea2, KREA, "krea2_turbo.safetensors"),
    "Z-Image": (known.ZImage, Z_IMAGE, "z_image.safetensors"),
    "Z-Image Turbo": (known.ZImage, Z_IMAGE, "z_image_turbo.safetensors"),
    "Qwen-Image": (known.QwenImage, QWEN, ""),
    "Qwen-Image-Edit": (known.QwenImage, QWEN, "qwen_image_edit_2511.safetensors"),
    "Anima": (known.Anima, ANIMA, ""), "Chroma": (known.Chroma, CHROMA, ""),
    "Lumina-Image 2": (known.Lumina2, LUMINA, ""), "HiDream-I1 Full": (known.HiDream, HIDREAM, ""),
    "HiDream-I1 Dev": (known.HiDream, HIDREAM, "hidream_i1_dev_bf16.safetensors"),
    "HiDream-I1 Fast": (known.HiDream, HIDREAM, "hidream_i1_fast_bf16.safetensors"),
    "any other family": (known.ErnieImage, ERNIE, ""),
}
"""By the recipe's name: ComfyUI's class, its network's settings, the name of the file."""
LOADED = {"sd15": "Stable Diffusion 1.5", "sd21": "Stable Diffusion 2.1 (768, v)", "sdxl": "SDXL",
          "sd3": "SD3 and SD3.5", "sd35": "SD3 and SD3.5", "flux": "Flux.1 dev"}
ELSEWHERE = {"Stable Diffusion 2.1 base (512)", "SDXL descendants that read tags (Pony, Illustrious, NoobAI)",
             "the pocket model"}
"""Recipes that other tests find."""


def network(name: str) -> ModelPatcher:
    """A MODEL without memory."""
    config, settings, file = NETWORKS[name]
    base = config(dict(settings)).get_model({}, "", device=torch.device("meta"))
    model = ModelPatcher(base, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    model.cached_patcher_init = (comfy.sd.load_diffusion_model, (f"/models/{file}", {})) if file else None
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_each_family_finds_its_recipe(name):
    assert recipe_of(network(name)).name == name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_of_each_family_finds_its_recipe(name):
    assert recipe_of(family_models(name)[0]).name == LOADED[name]


def test_every_recipe_is_found_by_some_test():
    names = {read_recipe(path).name for path in FOLDER.glob("*.json")}
    assert names == {*NETWORKS, *LOADED.values(), *ELSEWHERE}


def test_a_descendant_of_sdxl_is_known_by_its_file_and_the_other_prediction_of_2_1_by_itself():
    model = family_models("sdxl")[0]
    model.cached_patcher_init = (comfy.sd.load_checkpoint_guess_config, ("/models/Illustrious-XL-v1.0.safetensors",), 0)
    assert recipe_of(model).captions == "tags"
    facts = facts_of(family_models("sd21")[0])
    assert recipe(ModelFacts(classes=facts.classes, shape={**facts.shape, "prediction": "EPS"})).resolution == 512


def test_the_pocket_model_has_the_settings_that_were_measured_on_it():
    from comfyui_personalize.core.training.measured_presets import MEASURED
    from comfyui_personalize.pocket.comfyui.model import PocketModel

    found = recipe(ModelFacts(classes=[each.__name__ for each in PocketModel.__mro__]))
    lora = MEASURED["lora"]
    assert (found.name, found.learning_rate, found.batch) == ("the pocket model", lora.learning_rate, lora.batch)
    assert (found.rank, found.targets) == (lora.options.adapter.rank, lora.options.adapter.targets)
    assert found.steps_per_photo * 5 == lora.steps * lora.batch


def test_the_files_name_is_known_of_a_stock_loader_and_of_a_clone():
    model = tiny_models()[0]
    assert file_of(model) == file_of(model.clone()) == tiny_checkpoint().name
    model.cached_patcher_init = None
    assert file_of(model) == ""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_samplers_and_schedulers_are_choices_of_ksampler(path):
    values = read_recipe(path).values
    assert values["sampler"] in comfy.samplers.KSampler.SAMPLERS
    assert values["scheduler"] in comfy.samplers.KSampler.SCHEDULERS


def test_a_file_in_the_users_folder_wins(own_recipe):
    own_recipe(["Krea2"], rank=7)
    assert (recipe_of(network("Krea 2 Raw")).rank, recipe_of(network("Anima")).rank) == (7, 16)


def test_a_sampler_that_comfyui_has_not_is_refused(own_recipe):
    own_recipe(["Krea2"], sampler="magic")
    with pytest.raises(InputError, match="recipe of mine: sampler: got 'magic', expected one of KSampler's"):
        recipe_of(network("Krea 2 Raw"))
