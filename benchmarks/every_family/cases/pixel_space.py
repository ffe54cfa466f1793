"""Networks without an autoencoder: their latents are the pixels (3, h, w)."""

from __future__ import annotations

import torch
from comfy import supported_models as stock

from ..case import ANY_LENGTH, WIDTH, Case, Entry, text
from .joint_attention import CHROMA
from .other_transformers import Z_IMAGE

PIXELS = (3, 64, 64)
SMALL = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2,
         "num_key_value_heads": 1}
SMALL_EYE = {"hidden_size": 64, "intermediate_size": 64, "depth": 1, "num_heads": 2, "deepstack_visual_indexes": []}


def token_numbers(seed: int, length: int) -> Entry:
    """HiDream-O1 is a language model itself: its text is token numbers."""
    ids = torch.randint(0, 1000, (1, length), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(1, length, 1), {"pooled_output": None, "text_input_ids": ids}


CASES = {
    "chroma_radiance": Case(
        title="Chroma Radiance", config=stock.ChromaRadiance, text=text(), latent=PIXELS, lengths=ANY_LENGTH,
        clip="chroma",
        network=CHROMA | {"image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 16,
                          "nerf_hidden_size": 16, "nerf_mlp_ratio": 4, "nerf_depth": 2, "nerf_max_freqs": 8,
                          "nerf_tile_size": 512, "nerf_final_head_type": "conv", "nerf_embedder_dtype": torch.float32,
                          "use_x0": False, "use_sequential_txt_ids": False}),
    "z_image_pixels": Case(
        title="Z-Image in pixel space", config=stock.ZImagePixelSpace, text=text(padding=0), latent=PIXELS,
        lengths=ANY_LENGTH, clip="z_image",
        network=Z_IMAGE | {"image_model": "zimage_pixel", "patch_size": 16, "in_channels": 3,
                           "decoder_in_channels": 768, "decoder_hidden_size": 64, "decoder_num_res_blocks": 1,
                           "decoder_max_freqs": 8}),
    "hidream_o1": Case(
        title="HiDream-O1", config=stock.HiDreamO1, text=token_numbers, latent=PIXELS, lengths=ANY_LENGTH,
        network={"image_model": "hidream_o1", "text_config_overrides": SMALL, "vision_config_overrides": SMALL_EYE},
        clip="hidream_o1"),
    "pixeldit": Case(
        title="PixelDiT", config=stock.PixelDiTT2I, text=text(padding=4), latent=PIXELS, lengths=ANY_LENGTH,
        network={"image_model": "pixeldit_t2i", "num_groups": 2, "hidden_size": 128, "pixel_hidden_size": 16,
                 "pixel_attn_hidden_size": 64, "pixel_num_groups": 2, "patch_depth": 1, "pixel_depth": 1,
                 "txt_embed_dim": WIDTH}),
}
