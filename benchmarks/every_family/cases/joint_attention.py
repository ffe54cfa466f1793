"""Transformers in which text and picture attend together in two streams: Stable Diffusion 3, the Flux line, Chroma,
HiDream, HunyuanImage and others with latents of four dimensions."""

from __future__ import annotations

from typing import Any

from comfy import supported_models as stock

from ..case import ANY_LENGTH, SD3_WIDTH, WIDTH, Case, Entry, noise, text

LATENT = (16, 16, 16)
PACKED = (128, 8, 8)
"""Latents of autoencoders that pack 16 x 16 pixels into one."""
MMDIT: dict[str, Any] = {
    "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None,
    "adm_in_channels": 2 * WIDTH, "num_patches": 32 ** 2, "pos_embed_max_size": 32, "pos_embed_scaling_factor": None,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": SD3_WIDTH,
                                                                        "out_features": 128}},
}
FLUX: dict[str, Any] = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "hidden_size": 256, "num_heads": 2,
    "axes_dim": [16, 56, 56], "mlp_ratio": 4.0, "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
    "context_in_dim": WIDTH, "vec_in_dim": WIDTH, "patch_size": 2, "depth": 1, "depth_single_blocks": 1,
    "guidance_embed": True,
}
WITHOUT_CLIP = {"guidance_embed": False, "vec_in_dim": None, "txt_ids_dims": [1, 2]}
FLUX2: dict[str, Any] = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "hidden_size": 256, "num_heads": 2,
    "axes_dim": [32, 32, 32, 32], "mlp_ratio": 3.0, "theta": 2000, "qkv_bias": False, "ops_bias": False,
    "global_modulation": True, "mlp_silu_act": True, "txt_ids_dims": [3], "context_in_dim": WIDTH, "vec_in_dim": None,
    "patch_size": 1, "depth": 1, "depth_single_blocks": 1, "guidance_embed": False, "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
CHROMA: dict[str, Any] = {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 256, "hidden_dim": 128,
    "n_layers": 2, "axes_dim": [16, 56, 56], "hidden_size": 256, "num_heads": 2, "mlp_ratio": 4.0, "theta": 10000,
    "qkv_bias": True, "txt_ids_dims": [], "context_in_dim": WIDTH, "vec_in_dim": None, "patch_size": 2, "depth": 1,
    "depth_single_blocks": 1,
}


def sd3(title: str, **network: Any) -> Case:
    """Stable Diffusion 3.x."""
    return Case(title=title, config=stock.SD3, network=MMDIT | network, text=text(SD3_WIDTH, pooled=2 * WIDTH),
                latent=LATENT, lengths=(154, 267), clip="sd3")


def flux(title: str, **others: Any) -> Case:
    """Flux.1: at least 256 tokens of T5, and CLIP's pooled output."""
    return Case(**{"title": title, "config": stock.Flux, "network": FLUX, "text": text(pooled=WIDTH), "latent": LATENT,
                   "lengths": (256, 313), "clip": "flux"} | others)


def flux2(title: str, **others: Any) -> Case:
    """Flux.2."""
    return Case(**{"title": title, "config": stock.Flux2, "network": FLUX2, "text": text(), "latent": PACKED} | others)


def hidream_text(seed: int, length: int) -> Entry:
    """128 tokens of T5, the layers of a Llama that the network reads, the pooled outputs of two CLIPs."""
    return noise(1, 128, WIDTH, seed=seed), {"pooled_output": noise(1, WIDTH, seed=seed + 1000),
                                             "conditioning_llama3": noise(1, 3, length, WIDTH, seed=seed + 2000)}


CASES = {
    "sd3": sd3("Stable Diffusion 3"),
    "sd35": sd3("Stable Diffusion 3.5", qk_norm="rms", x_block_self_attn_layers=[0]),
    "auraflow": Case(
        title="AuraFlow", config=stock.AuraFlow, text=text(), latent=(4, 16, 16), lengths=(256, 300), clip="auraflow",
        network={"max_seq": 1024, "cond_seq_dim": WIDTH, "n_double_layers": 1, "n_layers": 2, "dim": 256, "n_heads": 2,
                 "global_conddim": 256}),
    "flux": flux("Flux.1 dev, Krea"),
    "flux_schnell": flux("Flux.1 schnell", config=stock.FluxSchnell, network=FLUX | {"guidance_embed": False}),
    "flux_kontext": flux("Flux.1 Kontext, with a reference picture", has_reference=True),
    "flux_fill": flux("Flux.1 Fill", config=stock.FluxInpaint, network=FLUX | {"in_channels": 96}),
    "ovis": flux("Ovis-Image", config=stock.FluxSchnell, text=text(), lengths=(256, 300), clip="ovis",
                 network=FLUX | WITHOUT_CLIP | {"yak_mlp": True, "txt_norm": True}),
    "longcat": flux("LongCat-Image", config=stock.LongCatImage, text=text(padding=480), lengths=(512, 512),
                    clip="longcat", network=FLUX | WITHOUT_CLIP),
    "chroma": Case(title="Chroma", config=stock.Chroma, network=CHROMA, text=text(), latent=LATENT, lengths=ANY_LENGTH,
                   clip="chroma"),
    "flux2_klein": flux2("Flux.2 klein", text=text(padding=8), lengths=(512, 530), clip="flux2_klein"),
    "flux2": flux2("Flux.2 dev", lengths=ANY_LENGTH),
    "hidream": Case(
        title="HiDream-I1", config=stock.HiDream, text=hidream_text, latent=LATENT, lengths=(128, 140), clip="hidream",
        network={"image_model": "hidream", "attention_head_dim": 128, "axes_dims_rope": [64, 32, 32],
                 "caption_channels": [WIDTH, WIDTH], "max_resolution": [128, 128], "in_channels": 16,
                 "out_channels": 16, "llama_layers": [0, 1, 2], "num_attention_heads": 2, "num_routed_experts": 4,
                 "num_activated_experts": 2, "num_layers": 1, "num_single_layers": 2, "patch_size": 2,
                 "text_emb_dim": WIDTH}),
    "hunyuan_image": Case(
        title="HunyuanImage 2.1", config=stock.HunyuanImage21, text=text(), latent=(64, 8, 8),
        lengths=ANY_LENGTH, clip="hunyuan_image",
        network={"image_model": "hunyuan_video", "in_channels": 64, "out_channels": 64, "patch_size": [1, 1],
                 "vec_in_dim": None, "axes_dim": [64, 64], "context_in_dim": WIDTH, "hidden_size": 256, "num_heads": 2,
                 "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1, "theta": 256, "qkv_bias": True, "byt5": True,
                 "guidance_embed": False, "meanflow": False, "meanflow_sum": False, "use_cond_type_embedding": False,
                 "vision_in_dim": None}),
    "lens": Case(
        title="Lens", config=stock.Lens, text=text(2 * WIDTH, padding=4), latent=PACKED, lengths=ANY_LENGTH,
        network={"image_model": "lens", "in_channels": 128, "out_channels": 32, "num_layers": 1,
                 "num_attention_heads": 2, "enc_hidden_dim": WIDTH, "multi_layer_encoder_feature": True,
                 "selected_layer_index": (0, 1)}),
    "mage_flow": Case(
        title="Mage-Flow", config=stock.MageFlow, text=text(), latent=PACKED, lengths=ANY_LENGTH, clip="mage_flow",
        network={"image_model": "mage_flow", "in_channels": 128, "num_layers": 1, "num_attention_heads": 2,
                 "joint_attention_dim": WIDTH}),
}
