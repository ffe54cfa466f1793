"""Tiny random networks of kinds that attend to text in other ways, each with its family's own tokenizer and a small
text encoder: what DCI is tested on where `families` has no model of true structure."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.sd
import comfy.text_encoders.anima as anima_text
import comfy.text_encoders.flux as flux_text
import comfy.text_encoders.hunyuan_image as hunyuan_text
import comfy.text_encoders.krea2 as krea_text
import comfy.text_encoders.longcat_image as longcat_text
import comfy.text_encoders.omnigen2 as omnigen_text
import comfy.text_encoders.ovis as ovis_text
import comfy.text_encoders.qwen_image as qwen_text
import comfy.text_encoders.z_image as z_text
import torch
from comfy import supported_models, supported_models_base
from torch import nn

WIDTH = 64
"""Width of one layer of the text encoders."""
CPU = torch.device("cpu")


def llm(layers: int, width: int = WIDTH) -> dict[str, int]:
    """ComfyUI's way to make a language model small."""
    return {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "num_attention_heads": 2,
            "num_key_value_heads": 1}


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text encoder: ComfyUI's classes, and how they are made small."""

    encoder: Callable[[], Any]
    tokenizer: type
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A network: ComfyUI's class, its settings, the shape of its latents, its text encoder where there is one here."""

    config: type
    network: Mapping[str, Any]
    latents: tuple[int, ...]
    text: str | None = None


TEXTS = {
    "zimage": Text(encoder=z_text.te, tokenizer=z_text.ZImageTokenizer, options={"qwen3_4b": llm(3)}),
    "qwen": Text(encoder=qwen_text.te, tokenizer=qwen_text.QwenImageTokenizer, options={"qwen25_7b": llm(3)}),
    "klein": Text(encoder=flux_text.klein_te, tokenizer=flux_text.KleinTokenizer, options={"qwen3_4b": llm(28)}),
    "longcat": Text(encoder=longcat_text.te, tokenizer=longcat_text.LongCatImageTokenizer,
                    options={"qwen25_7b": llm(3)}),
    "ovis": Text(encoder=ovis_text.te, tokenizer=ovis_text.OvisTokenizer, options={"qwen3_2b": llm(3)}),
    "omnigen2": Text(encoder=omnigen_text.te, tokenizer=omnigen_text.Omnigen2Tokenizer, options={"qwen25_3b": llm(3)}),
    "krea2": Text(encoder=krea_text.te, tokenizer=krea_text.Krea2Tokenizer, options={"qwen3vl_4b": llm(37)}),
    "hyimage": Text(encoder=lambda: hunyuan_text.te(byt5=False), tokenizer=hunyuan_text.HunyuanImageTokenizer,
                    options={"qwen25_7b": llm(4)}),
    "anima": Text(encoder=anima_text.te, tokenizer=anima_text.AnimaTokenizer, options={"qwen3_06b": llm(2, 1024)}),
}

_LUMINA = {"image_model": "lumina2", "patch_size": 2, "in_channels": 16, "cap_feat_dim": WIDTH, "n_layers": 2,
           "qk_norm": True, "n_heads": 2, "n_refiner_layers": 1}
_COSMOS = {"in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "max_img_h": 240,
           "max_img_w": 240, "max_frames": 128, "model_channels": 256, "num_blocks": 2, "num_heads": 2,
           "concat_padding_mask": True, "crossattn_emb_channels": 1024, "pos_emb_cls": "rope3d",
           "pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30,
           "use_adaln_lora": True, "adaln_lora_dim": 32, "extra_per_block_abs_pos_emb": False,
           "rope_h_extrapolation_ratio": 4.0, "rope_w_extrapolation_ratio": 4.0, "rope_t_extrapolation_ratio": 1.0,
           "extra_h_extrapolation_ratio": 1.0, "extra_w_extrapolation_ratio": 1.0, "extra_t_extrapolation_ratio": 1.0,
           "rope_enable_fps_modulation": False}
_PIXART = {"image_model": "pixart_alpha", "num_heads": 4, "patch_size": 2, "hidden_size": 192, "in_channels": 4,
           "depth": 1, "model_max_length": 120, "input_size": 64, "pe_interpolation": 1, "micro_condition": True,
           "caption_channels": WIDTH}

KINDS = {
    # Refiners of text and of image alone, then both jointly, the text padded to a multiple of 32.
    "zimage": Kind(config=supported_models.ZImage, latents=(16, 16, 16), text="zimage", network=_LUMINA | {
        "dim": 256, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0,
        "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32}),
    # Two streams, latents with a frame, a text encoder that leaves its template out.
    "qwen": Kind(config=supported_models.QwenImage, latents=(16, 1, 16, 16), text="qwen", network={
        "image_model": "qwen_image", "in_channels": 64, "num_layers": 2, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH}),
    # Keys shared by several heads; a text of several layers, mixed token by token.
    "krea2": Kind(config=supported_models.Krea2, latents=(16, 1, 16, 16), text="krea2", network={
        "image_model": "krea2", "features": 256, "channels": 16, "patch": 2, "layers": 2, "heads": 2, "kvheads": 1,
        "txtlayers": 12, "txtdim": WIDTH, "txtheads": 1, "txtkvheads": 1}),
    # Keys shared by several heads, left so to the attention.
    "omnigen2": Kind(config=supported_models.Omnigen2, latents=(16, 16, 16), text="omnigen2", network={
        "image_model": "omnigen2", "axes_dim_rope": [40, 40, 40], "axes_lens": [1024, 1664, 1664],
        "ffn_dim_multiplier": None, "hidden_size": 240, "in_channels": 16, "multiple_of": 256, "norm_eps": 1e-5,
        "num_attention_heads": 2, "num_kv_heads": 1, "num_layers": 2, "num_refiner_layers": 1, "out_channels": None,
        "patch_size": 2, "text_feat_dim": WIDTH, "timestep_scale": 1000.0}),
    # Cross-attention to a text of T5's tokens that the network itself makes.
    "anima": Kind(config=supported_models.Anima, latents=(16, 1, 16, 16), text="anima",
                  network=_COSMOS | {"image_model": "anima"}),
    # The image first and the text behind it, both under a mask.
    "hyimage": Kind(config=supported_models.HunyuanImage21, latents=(64, 8, 8), text="hyimage", network={
        "image_model": "hunyuan_video", "in_channels": 64, "patch_size": [1, 1], "out_channels": 64, "vec_in_dim": None,
        "axes_dim": [64, 64], "meanflow": False, "context_in_dim": WIDTH, "hidden_size": 256, "mlp_ratio": 4.0,
        "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "theta": 256, "qkv_bias": True, "byt5": False,
        "guidance_embed": False, "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False}),
    # One text of 512 rows, padded by the tokenizer.
    "klein": Kind(config=supported_models.Flux2, latents=(128, 8, 8), text="klein", network={
        "image_model": "flux2", "axes_dim": [32, 32, 32, 32], "num_heads": 2, "mlp_ratio": 3.0, "theta": 2000,
        "out_channels": 128, "global_modulation": True, "mlp_silu_act": True, "qkv_bias": False, "ops_bias": False,
        "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3], "in_channels": 128,
        "hidden_size": 256, "context_in_dim": 3 * WIDTH, "patch_size": 1, "vec_in_dim": None, "depth": 1,
        "depth_single_blocks": 1, "guidance_embed": False, "yak_mlp": False, "txt_norm": False}),
}

CLOSED = {
    "PixArt": Kind(config=supported_models.PixArtAlpha, latents=(4, 64, 64), network=_PIXART),
    "ErnieImage": Kind(config=supported_models.ErnieImage, latents=(128, 8, 8), network={
        "image_model": "ernie", "hidden_size": 256, "num_attention_heads": 2, "num_layers": 1, "ffn_hidden_size": 256,
        "text_in_dim": WIDTH}),
    "HunYuanDiT": Kind(config=supported_models.HunyuanDiT, latents=(4, 16, 16), network={
        "image_model": "hydit", "depth": 2, "hidden_size": 256, "num_heads": 4, "mlp_ratio": 4.0,
        "text_states_dim": WIDTH, "text_states_dim_t5": WIDTH}),
}
"""Networks that call attention without transformer_options."""


@functools.cache
def joint_model(name: str) -> Any:
    """A MODEL of random weights."""
    kind = (KINDS | CLOSED)[name]
    config = kind.config(dict(kind.network))
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device=CPU)
    _randomize(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


@functools.cache
def joint_clip(name: str) -> Any:
    """The CLIP of a text encoder of random weights, under its real tokenizer."""
    text = TEXTS[name]
    options = {f"{key}_model_config": value for key, value in text.options.items()}
    devices = dict.fromkeys(("load_device", "offload_device", "initial_device"), CPU)
    clip = comfy.sd.CLIP(supported_models_base.ClipTarget(text.tokenizer, text.encoder()), parameters=1,
                         model_options={**options, **devices})
    _randomize(clip.cond_stage_model)
    return clip


def _randomize(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "visual" in name:  # of its published size, and no text reaches it
                continue
            noise = torch.randn(value.shape, generator=generator)
            is_norm = value.ndim < 2 and name.endswith(("weight", "scale", "gamma", "inv_freq"))
            value.copy_(0.02 * noise + float(is_norm) if value.ndim < 2 else noise / math.sqrt(value[0].numel()))
