"""UNets: Stable Diffusion 1 and 2, SDXL and what was made of it, Stable Cascade. Text is read by cross-attention."""

from __future__ import annotations

from typing import Any

import torch
from comfy import supported_models as stock

from ..case import CHUNKS, WIDTH, Case, noise, text

LATENT = (4, 16, 16)
SIZE_IDS = 6 * 256
"""Six numbers, height, width, crop and target size, each embedded in 256."""
AESTHETIC_IDS = 5 * 256
UNET: dict[str, Any] = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True, "legacy": False,
    "use_temporal_attention": False, "use_temporal_resblock": False, "adm_in_channels": None,
}
SD15 = UNET | {
    "model_channels": 32, "channel_mult": [1, 2, 2, 2], "num_res_blocks": [1, 1, 1, 1],
    "transformer_depth": [1, 1, 1, 0], "transformer_depth_output": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1, "context_dim": WIDTH, "use_linear_in_transformer": False,
}
SD21 = UNET | {
    "model_channels": 64, "channel_mult": [1, 1, 1, 1], "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1, "context_dim": WIDTH, "use_linear_in_transformer": True,
}
SDXL = UNET | {
    "model_channels": 32, "channel_mult": [1, 2, 4], "num_res_blocks": [1, 1, 1], "transformer_depth": [0, 1, 2],
    "transformer_depth_output": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2, "context_dim": 2 * WIDTH,
    "use_linear_in_transformer": True, "num_classes": "sequential", "adm_in_channels": WIDTH + SIZE_IDS,
}
FEWER = {"transformer_depth": [0, 1, 1], "transformer_depth_output": [0, 0, 1, 1, 1, 1]}


def sd(title: str, network: dict[str, Any], **others: Any) -> Case:
    """Stable Diffusion 1.x or 2.x."""
    return Case(**{"title": title, "config": stock.SD15, "network": network, "text": text(), "latent": LATENT,
                   "lengths": CHUNKS, "clip": "clip_l"} | others)


def sdxl(title: str, network: dict[str, Any] = SDXL, **others: Any) -> Case:
    """SDXL or a network of its kind."""
    return Case(**{"title": title, "config": stock.SDXL, "network": network, "text": text(2 * WIDTH, pooled=WIDTH),
                   "latent": LATENT, "lengths": CHUNKS, "clip": "sdxl"} | others)


def cascade(title: str, config: Any, latent: tuple[int, ...], network: dict[str, Any]) -> Case:
    """One stage of Stable Cascade."""
    return Case(title=title, config=config, network=network, text=text(pooled=WIDTH), latent=latent, lengths=CHUNKS,
                clip="cascade")


CASES = {
    "sd15": sd("Stable Diffusion 1.5", SD15),
    "sd15_inpainting": sd("Stable Diffusion 1.5 inpainting", SD15 | {"in_channels": 9}),
    "sd15_edit": sd("InstructPix2Pix", SD15 | {"in_channels": 8}, has_picture=True,
                    config=stock.SD15_instructpix2pix),
    # ComfyUI takes SD2 for v-prediction by the spread of this bias, as in the 768-pixel checkpoint
    "sd21": sd("Stable Diffusion 2.1 (768)", SD21, config=stock.SD20, clip="clip_h", markers={
        "output_blocks.11.1.transformer_blocks.0.norm1.bias": 10 * noise(64)}),
    "sdxl": sdxl("SDXL, Pony, Illustrious"),
    "sdxl_v": sdxl("SDXL with v-prediction and zero terminal SNR (NoobAI)",
                   markers={"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}),
    "sdxl_edm": sdxl("Playground 2.5 (EDM)", markers={"edm_mean": torch.zeros(1, 4, 1, 1),
                                                      "edm_std": torch.ones(1, 4, 1, 1)}),
    "sdxl_edm_v": sdxl("CosXL (EDM, v-prediction)", markers={"edm_vpred.sigma_max": torch.tensor(120.0),
                                                             "edm_vpred.sigma_min": torch.tensor(0.002)}),
    "sdxl_refiner": sdxl("SDXL refiner", UNET | SDXL | {
        "model_channels": 64, "channel_mult": [1, 2, 2, 2], "num_res_blocks": [1, 1, 1, 1],
        "transformer_depth": [0, 1, 1, 0], "transformer_depth_output": [0, 0, 1, 1, 1, 1, 0, 0],
        "transformer_depth_middle": 1, "context_dim": WIDTH, "adm_in_channels": WIDTH + AESTHETIC_IDS},
        config=stock.SDXLRefiner, text=text(pooled=WIDTH), clip="clip_g"),
    "ssd1b": sdxl("SSD-1B", SDXL | FEWER | {"transformer_depth_middle": -1}, config=stock.SSD1B),
    "koala": sdxl("KOALA, Segmind Vega", SDXL | FEWER | {"transformer_depth_middle": 1}, config=stock.KOALA_1B),
    "cascade_c": cascade("Stable Cascade, stage C", stock.Stable_Cascade_C, (16, 24, 24), {
        "stable_cascade_stage": "c", "c_cond": 128, "c_hidden": [128, 128], "nhead": [4, 4], "blocks": [[1, 1], [1, 1]],
        "c_clip_text": WIDTH, "c_clip_text_pooled": WIDTH, "c_clip_img": 768}),
    "cascade_b": cascade("Stable Cascade, stage B", stock.Stable_Cascade_B, (4, 32, 32), {
        "stable_cascade_stage": "b", "c_cond": 128, "c_hidden": [64, 64, 128, 128], "nhead": [-1, -1, 4, 4],
        "blocks": [[1] * 4] * 2, "block_repeat": [[1] * 4] * 2, "c_clip": WIDTH}),
}
