"""A CLIP of each kind: its real tokenizers, and encoders of stock classes with small random weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import comfy.sd
import comfy.text_encoders.anima as anima
import comfy.text_encoders.aura_t5 as aura_t5
import comfy.text_encoders.boogu as boogu
import comfy.text_encoders.cosmos as cosmos
import comfy.text_encoders.flux as flux
import comfy.text_encoders.hidream as hidream
import comfy.text_encoders.hidream_o1 as hidream_o1
import comfy.text_encoders.hunyuan_image as hunyuan_image
import comfy.text_encoders.ideogram4 as ideogram4
import comfy.text_encoders.joyimage as joyimage
import comfy.text_encoders.kandinsky5 as kandinsky5
import comfy.text_encoders.krea2 as krea2
import comfy.text_encoders.longcat_image as longcat_image
import comfy.text_encoders.mage_flow as mage_flow
import comfy.text_encoders.omnigen2 as omnigen2
import comfy.text_encoders.ovis as ovis
import comfy.text_encoders.pixart_t5 as pixart_t5
import comfy.text_encoders.qwen_image as qwen_image
import comfy.text_encoders.sd3_clip as sd3_text
import comfy.text_encoders.z_image as z_image
import torch
from comfy import sd1_clip, sdxl_clip
from comfy.supported_models_base import ClipTarget
from comfy.text_encoders import sd2_clip

from .case import SD3_WIDTH, WIDTH
from .networks import CPU, randomise

SMALL_CLIP = {
    "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2,
    "hidden_act": "quick_gelu", "max_position_embeddings": 77, "eos_token_id": 49407,
}
SMALL_T5 = {"d_ff": 2 * WIDTH, "d_kv": 32, "d_model": WIDTH, "num_heads": 2, "num_layers": 2}
SMALL_LANGUAGE_MODEL = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 2,
                        "num_key_value_heads": 1}
"""All layers stay: many networks read several of them by number."""
LANGUAGE_MODELS = ("llama", "qwen25_3b", "qwen25_7b", "qwen3_06b", "qwen3_2b", "qwen3_4b", "qwen3_8b", "qwen3vl_4b",
                   "qwen3vl_8b")
SMALL = ({f"clip_{kind}_model_config": SMALL_CLIP for kind in "lgh"}
         | {f"{name}_model_config": SMALL_T5 for name in ("t5xxl", "pile_t5xl")}
         | {f"{name}_model_config": SMALL_LANGUAGE_MODEL for name in LANGUAGE_MODELS})
"""ComfyUI's own way to change an encoder's sizes."""
UNUSED = ("visual", "byt5")
"""Parts that a plain prompt does not reach, of their published size: their memory stays untouched."""


class WideT5(sd3_text.T5XXLModel):
    """A small T5 whose rows are padded with zeros to the width that SD3's encoder counts on."""

    def forward(self, tokens: Any) -> tuple[Any, ...]:
        context, *rest = super().forward(tokens)
        return (torch.nn.functional.pad(context, (0, SD3_WIDTH - context.shape[-1])), *rest)


class SmallSD3Text(sd3_text.SD3ClipModel):
    """Stock, but for the T5's width."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None):
        super().__init__(device=device, dtype=dtype, t5=False, model_options=model_options or {})
        self.t5_attention_mask = False
        self.t5xxl = WideT5(device=device, dtype=dtype, model_options=model_options or {})


CLIPS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "clip_l": (sd1_clip.SD1Tokenizer, lambda: sd1_clip.SD1ClipModel),
    "clip_h": (sd2_clip.SD2Tokenizer, lambda: sd2_clip.SD2ClipModel),
    "clip_g": (sdxl_clip.SDXLTokenizer, lambda: sdxl_clip.SDXLRefinerClipModel),
    "sdxl": (sdxl_clip.SDXLTokenizer, lambda: sdxl_clip.SDXLClipModel),
    "cascade": (sdxl_clip.StableCascadeTokenizer, lambda: sdxl_clip.StableCascadeClipModel),
    "sd3": (sd3_text.SD3Tokenizer, lambda: SmallSD3Text),
    "auraflow": (aura_t5.AuraT5Tokenizer, lambda: aura_t5.AuraT5Model),
    "chroma": (pixart_t5.PixArtTokenizer, pixart_t5.pixart_te),
    "cosmos": (cosmos.CosmosT5Tokenizer, cosmos.te),
    "flux": (flux.FluxTokenizer, flux.flux_clip),
    "flux2_klein": (flux.KleinTokenizer, flux.klein_te),
    "hidream": (hidream.HiDreamTokenizer, hidream.hidream_clip),
    "hidream_o1": (hidream_o1.HiDreamO1Tokenizer, lambda: hidream_o1.HiDreamO1TE),
    "ovis": (ovis.OvisTokenizer, ovis.te),
    "longcat": (longcat_image.LongCatImageTokenizer, longcat_image.te),
    "hunyuan_image": (hunyuan_image.HunyuanImageTokenizer, hunyuan_image.te),
    "kandinsky5": (kandinsky5.Kandinsky5TokenizerImage, kandinsky5.te),
    "qwen_image": (qwen_image.QwenImageTokenizer, qwen_image.te),
    "z_image": (z_image.ZImageTokenizer, z_image.te),
    "omnigen2": (omnigen2.Omnigen2Tokenizer, omnigen2.te),
    "boogu": (boogu.BooguTokenizer, boogu.te),
    "mage_flow": (mage_flow.MageFlowTokenizer, mage_flow.te),
    "krea2": (krea2.Krea2Tokenizer, krea2.te),
    "joyimage": (joyimage.JoyImageTokenizer, joyimage.te),
    "ideogram4": (ideogram4.Ideogram4Tokenizer, ideogram4.te),
    "anima": (anima.AnimaTokenizer, anima.te),
}
"""Tokenizer and encoder of each kind. Not here: Flux.2 dev, Lens, ERNIE-Image (their tokenizers come with the encoders'
files), Lumina 2, PixelDiT (Gemma), Wan, HunyuanDiT (T5 of many languages)."""


@functools.cache
def build_clip(kind: str) -> Any:
    """The CLIP of a kind, as a loader hands it to the graph."""
    tokenizer, encoder = CLIPS[kind]
    devices = dict.fromkeys(("load_device", "offload_device", "initial_device"), CPU)
    with torch.inference_mode():
        clip = comfy.sd.CLIP(ClipTarget(tokenizer, encoder()), parameters=1,
                             model_options=SMALL | devices | {"dtype": torch.float32})
        randomise(clip.cond_stage_model, frozen=UNUSED)
        return clip
