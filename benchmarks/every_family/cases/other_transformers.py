"""Transformers that read text by cross-attention, or as one stream with the picture: PixArt, HunyuanDiT, Kandinsky 5,
Lumina 2, Z-Image, OmniGen2, Boogu, ERNIE-Image, Ideogram 4."""

from __future__ import annotations

from typing import Any

from comfy import supported_models as stock

from ..case import ANY_LENGTH, WIDTH, Case, Entry, mask, noise, stock_class, text

LATENT = (16, 16, 16)
PACKED = (128, 8, 8)
PIXART: dict[str, Any] = {"num_heads": 4, "patch_size": 2, "hidden_size": 192, "in_channels": 4, "depth": 1,
                          "input_size": 64, "pe_interpolation": 1, "caption_channels": WIDTH}
LUMINA: dict[str, Any] = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 192, "cap_feat_dim": WIDTH, "n_layers": 1,
    "qk_norm": True, "n_heads": 2, "n_kv_heads": 1, "axes_dims": [32, 32, 32], "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0, "ffn_dim_multiplier": 4.0, "n_refiner_layers": 1,
}
Z_IMAGE = LUMINA | {
    "dim": 256, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0,
    "ffn_dim_multiplier": 8.0 / 3.0, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32,
}
OMNIGEN: dict[str, Any] = {"hidden_size": 240, "num_attention_heads": 2, "num_kv_heads": 1, "num_layers": 1,
                           "num_refiner_layers": 1}
IDEOGRAM: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 128, "intermediate_size": 256,
                            "adaln_dim": 64, "llm_features_dim": WIDTH, "mrope_section": [24, 20, 20]}


def hunyuan_dit_text(seed: int, length: int) -> Entry:
    """77 tokens of a BERT and 256 of mT5, for every prompt, each with its mask."""
    return noise(1, 77, WIDTH, seed=seed), {
        "pooled_output": None, "attention_mask": mask(77, length), "attention_mask_mt5xl": mask(256, length + 2),
        "conditioning_mt5xl": noise(1, 256, WIDTH, seed=seed + 1000)}


def pixart(title: str, config: Any, **network: Any) -> Case:
    """PixArt, whose T5 does not pad."""
    return Case(title=title, config=config, network=PIXART | network, text=text(), latent=(4, 64, 64),
                lengths=ANY_LENGTH, clip="chroma")


CASES = {
    "pixart_alpha": pixart("PixArt alpha", stock.PixArtAlpha, image_model="pixart_alpha", model_max_length=120,
                           micro_condition=True),
    "pixart_sigma": pixart("PixArt sigma", stock.PixArtSigma, image_model="pixart_sigma", model_max_length=300,
                           micro_condition=False),
    "hunyuan_dit": Case(
        title="HunyuanDiT 1.2", config=stock.HunyuanDiT, text=hunyuan_dit_text, latent=(4, 16, 16), lengths=(8, 8),
        network={"image_model": "hydit", "depth": 2, "hidden_size": 256, "num_heads": 4, "mlp_ratio": 4.0,
                 "text_states_dim": WIDTH, "text_states_dim_t5": WIDTH}),
    "kandinsky5": Case(
        title="Kandinsky 5 Image", config=stock.Kandinsky5Image, text=text(pooled=WIDTH, padding=4), latent=LATENT,
        lengths=ANY_LENGTH, clip="kandinsky5",
        network={"image_model": "kandinsky5", "model_dim": 256, "axes_dims": (32, 48, 48),
                 "rope_scale_factor": (1.0, 1.0, 1.0), "time_dim": 64, "ff_dim": 256, "visual_embed_dim": 64,
                 "num_text_blocks": 1, "num_visual_blocks": 1, "in_text_dim": WIDTH, "in_text_dim2": WIDTH}),
    "lumina2": Case(title="Lumina-Image 2, NetaYume", config=stock.Lumina2, network=LUMINA, text=text(padding=4),
                    latent=LATENT, lengths=ANY_LENGTH),
    "z_image": Case(title="Z-Image Turbo, Base", config=stock.ZImage, network=Z_IMAGE, text=text(padding=0),
                    latent=LATENT, lengths=ANY_LENGTH, clip="z_image"),
    "omnigen2": Case(
        title="OmniGen2", config=stock.Omnigen2, text=text(padding=0), latent=LATENT, lengths=ANY_LENGTH,
        clip="omnigen2",
        network=OMNIGEN | {"image_model": "omnigen2", "axes_dim_rope": [40, 40, 40], "axes_lens": [1024, 1664, 1664],
                           "ffn_dim_multiplier": None, "in_channels": 16, "out_channels": None, "multiple_of": 256,
                           "norm_eps": 1e-5, "patch_size": 2, "text_feat_dim": WIDTH, "timestep_scale": 1000.0}),
    "boogu": Case(
        title="Boogu-Image", config=stock.Boogu, text=text(padding=0), latent=LATENT, lengths=ANY_LENGTH, clip="boogu",
        network=OMNIGEN | {"image_model": "boogu", "num_double_stream_layers": 1, "instruction_feat_dim": WIDTH}),
    "ernie": Case(
        title="ERNIE-Image", config=stock.ErnieImage, text=text(), latent=PACKED, lengths=ANY_LENGTH,
        network={"image_model": "ernie", "hidden_size": 256, "num_attention_heads": 2, "num_layers": 1,
                 "ffn_hidden_size": 256, "text_in_dim": WIDTH}),
    "ideogram4": Case(
        title="Ideogram 4", text=text(padding=4), latent=PACKED, lengths=ANY_LENGTH, clip="ideogram4",
        config=stock_class(stock.Ideogram4, **IDEOGRAM, rope_theta=5000000, norm_eps=1e-5),
        network=IDEOGRAM | {"image_model": "ideogram4", "in_channels": 128, "num_layers": 1}),
}
