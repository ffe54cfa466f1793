"""Random models with the true structure of each family, reduced in depth and width, loaded by ComfyUI's own loader.

SD1.5, SD2.1 (v-prediction), SDXL, SD3, SD3.5 (dual attention) and Flux, each with its real tokenizers and stock text
encoder classes; ComfyUI detects the network from the file's keys. Mechanics are real, pictures are noise.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.text_encoders.flux as flux_text
import comfy.text_encoders.sd3_clip as sd3_text
import torch
from comfy import sd1_clip, sdxl_clip, supported_models, supported_models_base
from comfy.taesd.taesd import TAESD
from comfy.text_encoders import sd2_clip
from safetensors.torch import save_file
from tiny_model import random_weights
from torch import Tensor

TEXT = 64
"""Width of every text encoder, T5 too."""
SIZE_IDS = 6 * 256
SD3_CONTEXT = 4096
"""SD3's text encoder pads CLIP's rows to this width, T5's: stock code, so the small T5 pads its own."""

CLIP = {
    "hidden_size": TEXT, "intermediate_size": 2 * TEXT, "num_hidden_layers": 3, "num_attention_heads": 2,
    "hidden_act": "quick_gelu", "max_position_embeddings": 77, "eos_token_id": 49407,
}
T5 = {"d_ff": 2 * TEXT, "d_kv": 32, "d_model": TEXT, "num_heads": 2, "num_layers": 2}
TEXT_OPTIONS = {f"clip_{kind}_model_config": CLIP for kind in "lgh"} | {"t5xxl_model_config": T5}
"""ComfyUI's own way to change a text encoder's config."""

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True, "legacy": False,
    "use_temporal_attention": False, "use_temporal_resblock": False, "adm_in_channels": None,
}


def with_small_embeddings(tokenizer: type) -> type:
    """The tokenizer, whose `embedding:` files have vectors of width `TEXT`."""
    class Small(tokenizer):
        def __init__(self, *args: Any, **settings: Any):
            super().__init__(*args, **settings)
            for part in vars(self).values():
                if isinstance(part, sd1_clip.SDTokenizer):
                    part.embedding_size = TEXT

    return Small


class SmallSD15(supported_models.SD15):
    unet_config = supported_models.SD15.unet_config | {"context_dim": TEXT, "model_channels": 32}

    def clip_target(self, state_dict: Mapping | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(with_small_embeddings(sd1_clip.SD1Tokenizer), sd1_clip.SD1ClipModel)


class SmallSD21(supported_models.SD20):
    unet_config = supported_models.SD20.unet_config | {"context_dim": TEXT, "model_channels": 64}

    def clip_target(self, state_dict: Mapping | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(with_small_embeddings(sd2_clip.SD2Tokenizer), sd2_clip.SD2ClipModel)


class SmallSDXL(supported_models.SDXL):
    unet_config = supported_models.SDXL.unet_config | {
        "context_dim": 2 * TEXT, "model_channels": 32, "transformer_depth": [0, 1, 2],
        "adm_in_channels": TEXT + SIZE_IDS}

    def clip_target(self, state_dict: Mapping | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(with_small_embeddings(sdxl_clip.SDXLTokenizer),
                                                sdxl_clip.SDXLClipModel)


class WideT5(sd3_text.T5XXLModel):
    """A small T5 whose rows are padded with zeros to the width that SD3's encoder counts on."""

    def forward(self, tokens: Any) -> tuple:
        context, *rest = super().forward(tokens)
        return (torch.nn.functional.pad(context, (0, SD3_CONTEXT - context.shape[-1])), *rest)


class SmallSD3Text(sd3_text.SD3ClipModel):
    """Stock, but for the T5's width."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict | None = None):
        super().__init__(device=device, dtype=dtype, t5=False, model_options=model_options or {})
        self.t5_attention_mask = False
        self.t5xxl = WideT5(device=device, dtype=dtype, model_options=model_options or {})


class SmallSD3(supported_models.SD3):
    unet_config = supported_models.SD3.unet_config | {"depth": 2}

    def clip_target(self, state_dict: Mapping | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(with_small_embeddings(sd3_text.SD3Tokenizer), SmallSD3Text)


class SmallFlux(supported_models.Flux):
    unet_config = supported_models.Flux.unet_config | {"hidden_size": 256}

    def clip_target(self, state_dict: Mapping | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(with_small_embeddings(flux_text.FluxTokenizer), flux_text.flux_clip())


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family's file is made.

    Attributes:
        config: ComfyUI's class of the family, that detection finds by the reduced sizes.
        network: the network's settings, as detection gives them.
        channels: of the latents.
        prediction: what the network puts out.
        encoders: tokenizer keys of its text encoders.
        has_cross_attention: whether image and text attend in layers of their own (UNet) or jointly.
        finish: changes of the network's weights before they are saved.
    """

    config: type[supported_models_base.BASE]
    network: Mapping[str, Any]
    channels: int
    prediction: str
    encoders: tuple[str, ...]
    has_cross_attention: bool
    finish: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(default=lambda weights: weights)


def _marked_as_v(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """ComfyUI takes SD2 for v-prediction by the spread of this bias, as in the 768-pixel checkpoint."""
    name = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
    return weights | {name: 10 * weights[name]}


def _as_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Flux' files call the norms' weights scale."""
    return {name.replace("_norm.weight", "_norm.scale"): value for name, value in weights.items()}


_MMDIT = {"in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None,
          "adm_in_channels": 2 * TEXT, "num_patches": 32 ** 2, "pos_embed_max_size": 32,
          "pos_embed_scaling_factor": None, "context_embedder_config": {
              "target": "torch.nn.Linear", "params": {"in_features": SD3_CONTEXT, "out_features": 128}}}

FAMILIES: dict[str, Family] = {
    "sd15": Family(
        config=SmallSD15, channels=4, prediction="epsilon", encoders=("l",), has_cross_attention=True,
        network=UNET | {"model_channels": 32, "channel_mult": [1, 2, 2, 2], "num_res_blocks": [1, 1, 1, 1],
                        "transformer_depth": [1, 1, 1, 0], "transformer_depth_output": [1, 1, 1, 1, 1, 1, 0, 0],
                        "transformer_depth_middle": 1, "context_dim": TEXT, "use_linear_in_transformer": False}),
    "sd21": Family(
        config=SmallSD21, channels=4, prediction="v_prediction", encoders=("h",), has_cross_attention=True,
        finish=_marked_as_v,
        network=UNET | {"model_channels": 64, "channel_mult": [1, 1, 1, 1], "num_res_blocks": [2, 2, 2, 2],
                        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
                        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
                        "transformer_depth_middle": 1, "context_dim": TEXT, "use_linear_in_transformer": True}),
    "sdxl": Family(
        config=SmallSDXL, channels=4, prediction="epsilon", encoders=("g", "l"), has_cross_attention=True,
        network=UNET | {"model_channels": 32, "channel_mult": [1, 2, 4], "num_res_blocks": [1, 1, 1],
                        "transformer_depth": [0, 1, 2], "transformer_depth_output": [0, 0, 1, 1, 2, 2],
                        "transformer_depth_middle": 2, "context_dim": 2 * TEXT, "use_linear_in_transformer": True,
                        "num_classes": "sequential", "adm_in_channels": TEXT + SIZE_IDS}),
    "sd3": Family(
        config=SmallSD3, channels=16, prediction="flow", encoders=("g", "l", "t5xxl"), has_cross_attention=False,
        network=_MMDIT),
    "sd35": Family(
        config=SmallSD3, channels=16, prediction="flow", encoders=("g", "l", "t5xxl"), has_cross_attention=False,
        network=_MMDIT | {"qk_norm": "rms", "x_block_self_attn_layers": [0]}),
    "flux": Family(
        config=SmallFlux, channels=16, prediction="flow", encoders=("l", "t5xxl"), has_cross_attention=False,
        finish=_as_published,
        network={"image_model": "flux", "in_channels": 16, "out_channels": 16, "hidden_size": 256, "num_heads": 2,
                 "axes_dim": [16, 56, 56], "mlp_ratio": 4.0, "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
                 "context_in_dim": TEXT, "vec_in_dim": TEXT, "patch_size": 2, "depth": 1, "depth_single_blocks": 1,
                 "guidance_embed": True}),
}
JOINT = tuple(name for name, family in FAMILIES.items() if not family.has_cross_attention)
"""Families of joint attention, without a UNet."""


@functools.cache
def family_checkpoint(name: str, seed: int = 0) -> Path:
    """A checkpoint file of random weights (10 to 30 MB), as the family's own files are laid out."""
    family, generator = FAMILIES[name], torch.Generator().manual_seed(seed)
    config = family.config(dict(family.network))
    network = config.get_model({}, device="meta").diffusion_model
    weights = {f"model.diffusion_model.{key}": value
               for key, value in family.finish(random_weights(network, "", generator)).items()}
    text = config.clip_target({}).clip(device="meta", dtype=torch.float16, model_options=TEXT_OPTIONS)
    weights |= config.process_clip_state_dict_for_saving(random_weights(text, "", generator))
    vae = config.vae_key_prefix[0]
    weights |= random_weights(TAESD(latent_channels=family.channels), vae, generator)
    weights |= {f"{vae}vae_scale": torch.tensor(1.0), f"{vae}vae_shift": torch.tensor(0.0)}
    folder = Path(tempfile.mkdtemp(prefix="personalize-family-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / f"{name}.safetensors"
    save_file({key: value.half().contiguous() for key, value in weights.items()}, path)
    return path


def family_models(name: str, seed: int = 0, **options: Any) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a family's checkpoint from ComfyUI's loader: new objects at every call.

    Args:
        name: one of `FAMILIES`.
        options: ComfyUI's model options, for example dtype.
    """
    known = [family.config for family in FAMILIES.values()]
    supported_models.models[:0] = known  # before the stock classes, which match MMDiT and Flux too
    try:
        with torch.inference_mode():
            return comfy.sd.load_checkpoint_guess_config(str(family_checkpoint(name, seed)), model_options=options,
                                                         te_model_options=TEXT_OPTIONS)[:3]
    finally:
        del supported_models.models[:len(known)]  # the other tests' tiny model has the sizes of one of them
