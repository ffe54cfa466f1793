"""Networks of videos that draw stills, and pictures with a video's autoencoder: latents (C, 1, h, w) have a frame."""

from __future__ import annotations

from typing import Any

import torch
from comfy import supported_models as stock

from ..case import ANY_LENGTH, WIDTH, Case, Entry, noise, text

LATENT = (16, 1, 16, 16)
T5_PADDED = (512, 530)
"""Tokens of a short prompt, padded, and of a long one."""
COSMOS_TEXT = 1024
QWEN: dict[str, Any] = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 1, "num_attention_heads": 2,
                        "joint_attention_dim": WIDTH}
COSMOS: dict[str, Any] = {
    "image_model": "cosmos_predict2", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 256, "concat_padding_mask": True,
    "crossattn_emb_channels": COSMOS_TEXT, "pos_emb_cls": "rope3d", "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30, "use_adaln_lora": True, "adaln_lora_dim": 32,
    "num_blocks": 1, "num_heads": 2, "extra_per_block_abs_pos_emb": False, "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0, "rope_t_extrapolation_ratio": 1.0, "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0, "extra_t_extrapolation_ratio": 1.0, "rope_enable_fps_modulation": False,
}


def anima_text(seed: int, length: int) -> Entry:
    """The rows of a language model, and T5's token numbers, which the network embeds itself."""
    generator = torch.Generator().manual_seed(seed + 1000)
    ids = torch.randint(0, 30000, (length + 3,), generator=generator, dtype=torch.int)
    return noise(1, length, COSMOS_TEXT, seed=seed), {"pooled_output": None, "t5xxl_ids": ids,
                                                      "t5xxl_weights": torch.ones(length + 3)}


def qwen(title: str, **others: Any) -> Case:
    """Qwen-Image."""
    return Case(title=title, config=stock.QwenImage, network=QWEN, text=text(), latent=LATENT, lengths=ANY_LENGTH,
                clip="qwen_image", **others)


CASES = {
    "qwen_image": qwen("Qwen-Image"),
    "qwen_image_edit": qwen("Qwen-Image-Edit, with a reference picture", has_reference=True),
    "cosmos_predict2": Case(title="Cosmos-Predict2 text to image", config=stock.CosmosT2IPredict2, network=COSMOS,
                            text=text(COSMOS_TEXT), latent=LATENT, lengths=T5_PADDED, clip="cosmos"),
    "anima": Case(title="Anima", config=stock.Anima, network=COSMOS | {"image_model": "anima"}, text=anima_text,
                  latent=LATENT, lengths=ANY_LENGTH, clip="anima"),
    "krea2": Case(
        title="Krea 2", config=stock.Krea2, text=text(2 * WIDTH), latent=LATENT, lengths=ANY_LENGTH, clip="krea2",
        network={"image_model": "krea2", "features": 256, "channels": 16, "patch": 2, "layers": 1, "heads": 2,
                 "kvheads": 1, "txtlayers": 2, "txtdim": WIDTH, "txtheads": 1, "txtkvheads": 1}),
    "joyimage": Case(
        title="JoyImage", config=stock.JoyImage, text=text(), latent=LATENT, lengths=ANY_LENGTH, clip="joyimage",
        network={"image_model": "joyimage", "in_channels": 16, "hidden_size": 256, "patch_size": [1, 2, 2],
                 "num_layers": 1, "num_attention_heads": 2, "text_dim": WIDTH}),
    "wan": Case(
        title="Wan 2.1 and 2.2, stills", config=stock.WAN21_T2V, text=text(), latent=LATENT, lengths=T5_PADDED,
        network={"image_model": "wan2.1", "model_type": "t2v", "dim": 256, "in_dim": 16, "out_dim": 16, "num_heads": 2,
                 "ffn_dim": 256, "num_layers": 1, "patch_size": (1, 2, 2), "freq_dim": 256, "window_size": (-1, -1),
                 "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6, "text_dim": WIDTH}),
}
