"""The bridge with SDXL's structure: two text encoders, pooled text and size ids."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import pytest
import torch
from comfy import model_base, model_patcher, sd1_clip, sdxl_clip, supported_models, supported_models_base
from tiny_model import TEXT_CONFIG, UNET_SHAPE, random_weights

from comfyui_personalize.core.model.contracts import Conditioning, concat_rows
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser, unet_adapter_keys
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.text.adapter_keys import text_adapter_keys
from comfyui_personalize.nodes.bridge.text.encoder import (
    encode,
    encode_with_gradients,
    out_of_place_layers,
)
from comfyui_personalize.nodes.bridge.text.trainable_encoders import check_trainable

pytestmark = pytest.mark.usefixtures("inference_mode")
POOLED = TEXT_CONFIG["hidden_size"]
ADM = POOLED + 6 * 256


class TinySDXLText(sdxl_clip.SDXLClipModel):
    """SDXL's pair of encoders at width 64; the second pads with 0, as SDXL's does."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        torch.nn.Module.__init__(self)
        shape = {"layer": "hidden", "layer_idx": -2, "device": device, "dtype": dtype, "layer_norm_hidden_state": False,
                 "textmodel_json_config": TEXT_CONFIG | {"num_hidden_layers": 3}}
        self.clip_l = sd1_clip.SDClipModel(**shape)
        self.clip_g = sd1_clip.SDClipModel(**shape, special_tokens={"start": 49406, "end": 49407, "pad": 0})
        self.dtypes = {dtype}


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():
        made = comfy.sd.CLIP(supported_models_base.ClipTarget(sdxl_clip.SDXLTokenizer, TinySDXLText))
        generator = torch.Generator().manual_seed(0)
        made.cond_stage_model.load_state_dict(random_weights(made.cond_stage_model, "", generator))
        return made


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        shape = UNET_SHAPE | {"context_dim": 2 * POOLED, "adm_in_channels": ADM, "num_classes": "sequential",
                              "use_linear_in_transformer": True}
        config = supported_models.SDXL(dict(shape))
        config.unet_config = dict(shape)
        config.set_inference_dtype(torch.float32, None)
        made = model_base.SDXL(config)
        weights = random_weights(made.diffusion_model, "", torch.Generator().manual_seed(0))
        made.diffusion_model.load_state_dict(weights)
        return model_patcher.ModelPatcher(made, torch.device("cpu"), torch.device("cpu"))


def test_the_prediction_is_told_pooled_text_and_sizes_as_comfyui_tells_it(model, clip):
    comfy.model_management.load_models_gpu([model])
    denoiser, rows = ComfyDenoiser(model, 64), [encode(clip, text) for text in ("a sks dog", "a dog")]
    context, pooled, _ = concat_rows(rows)
    index, latents = torch.tensor([300, 300]), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    alpha, sigma = denoiser.schedule.alphas[300], denoiser.schedule.sigmas[300]
    x0 = (latents - sigma * denoiser(latents, index, rows)) / alpha
    ratio = model.model.model_sampling.sigmas[300].repeat(2)
    sizes = model.model.encode_adm(pooled_output=pooled, width=64, height=64)
    expected = model.model.apply_model(latents / alpha, ratio, c_crossattn=context, y=sizes)
    assert torch.allclose(x0, expected, atol=1e-4 * float(expected.abs().max()))
    other = denoiser(latents, index, [Conditioning(row.context, 2 * row.pooled) for row in rows])
    assert not torch.allclose(other, denoiser(latents, index, rows))


@pytest.mark.parametrize("prompt", ["a sks dog", "", "a (sks:1.4) dog " + "word " * 90])
def test_rows_with_gradients_equal_comfyuis_own(clip, prompt):
    check_trainable(clip)
    expected = encode(clip, prompt)
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model):
        row = encode_with_gradients(clip, prompt)
    assert row.context.shape[-1] == 2 * POOLED
    assert torch.allclose(row.context, expected.context, atol=1e-5)
    assert torch.allclose(row.pooled, expected.pooled, atol=1e-5)


def test_keys_are_what_stock_loraloader_maps_to_the_same_layer(model, clip):
    theirs = comfy.lora.model_lora_keys_unet(model.model, {})
    theirs = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, theirs)
    unet = {f"diffusion_model.{path}.weight": stem for path, stem in unet_adapter_keys(model).items()
            if ".attn" in path and isinstance(model.model.diffusion_model.get_submodule(path), torch.nn.Linear)}
    text = {f"{path}.weight": stem for path, stem in text_adapter_keys(clip.cond_stage_model).items()
            if ".self_attn." in path}
    assert {stem[:9] for stem in text.values()} == {"lora_te1_", "lora_te2_"}
    assert all(theirs[stem] == weight for weight, stem in (unet | text).items())
