"""Small random files of a family, laid out as its users' files are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import comfy.model_detection
import comfy.sd
import comfy.text_encoders.anima as anima
import comfy.text_encoders.qwen_image as qwen_image
import comfy.text_encoders.sd3_clip as sd3_text
import comfy.text_encoders.z_image as z_image
import torch
from comfy import sd1_clip, sdxl_clip, supported_models
from comfy.ldm.models.autoencoder import AutoencoderKL, AutoencodingEngine
from comfy.ldm.wan.vae import WanVAE
from comfy.text_encoders import qwen_vl
from safetensors.torch import save_file
from torch import Tensor, nn

from ..cases import CASES
from ..clips import SMALL_CLIP, SMALL_LANGUAGE_MODEL, SMALL_T5
from ..networks import randomise
from .forms import FORMS, Form

VAE_WIDTH = 32
"""Channels of the widest resolution; published: 128, or 96 in Wan's."""
SDXL_PREFIXES = {"clip_l": "conditioner.embedders.0", "clip_g": "conditioner.embedders.1.model"}
VISION = {"hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "num_layers": 1}
"""The eyes of Qwen2.5-VL, which no plain prompt reaches."""
Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A text encoder.

    Attributes:
        kind: what ComfyUI's detection calls it.
        make: its stock class.
        sizes: the settings that differ from the published ones.
    """

    kind: str
    make: Callable[..., Any]
    sizes: Mapping[str, Any]


ENCODERS = {
    "clip_l": Encoder(kind="CLIP_L", make=sd1_clip.SDClipModel, sizes=SMALL_CLIP),
    "clip_g": Encoder(kind="CLIP_G", make=sdxl_clip.SDXLClipG, sizes=SMALL_CLIP | {"num_hidden_layers": 32}),
    "t5xxl": Encoder(kind="T5_XXL", make=sd3_text.T5XXLModel, sizes=SMALL_T5 | {"num_layers": 24}),
    "qwen3_06b": Encoder(kind="QWEN3_06B", make=anima.Qwen3_06BModel, sizes=SMALL_LANGUAGE_MODEL),
    "qwen3_4b": Encoder(kind="QWEN3_4B", make=z_image.Qwen3_4BModel, sizes=SMALL_LANGUAGE_MODEL),
    "qwen25_7b": Encoder(kind="QWEN25_7B", make=qwen_image.Qwen25_7BVLIModel, sizes=SMALL_LANGUAGE_MODEL),
}
"""As many layers as published: files are known by them, networks read some by number."""


def _kl(channels: int, **settings: Any) -> dict[str, Any]:
    return {"double_z": True, "z_channels": channels, "resolution": 256, "in_channels": 3, "out_ch": 3,
            "ch": VAE_WIDTH, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
            **settings}


def _engine(channels: int) -> nn.Module:
    part = "comfy.ldm.modules.diffusionmodules.model."
    return AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": f"{part}Encoder", "params": _kl(channels)},
        decoder_config={"target": f"{part}Decoder", "params": _kl(channels)})


VAES: dict[str, Callable[[], nn.Module]] = {
    "sdxl": lambda: AutoencoderKL(ddconfig=_kl(4), embed_dim=4),
    "sd3": lambda: _engine(16),
    "flux": lambda: _engine(16),
    "flux2": lambda: AutoencoderKL(ddconfig=_kl(32, batch_norm_latent=True), embed_dim=32),
    "wan": lambda: WanVAE(dim=VAE_WIDTH, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
                          temperal_downsample=[False, True, True], dropout=0.0),
}


def write_family(name: str, models: Path) -> dict[str, Any]:
    """Write every file of a family into ComfyUI's folders and return what its files had to say of their sizes.

    Args:
        name: of `FORMS`.
        models: ComfyUI's folder `models`.
    """
    form = FORMS[name]
    network, said = network_weights(name)
    encoders = {encoder: encoder_weights(encoder) for encoder in form.encoders}
    vae = vae_weights(form.vae)
    if form.has_checkpoint:
        network = prefixed(network, "model.diffusion_model.") | prefixed(vae, "first_stage_model.")
        if form.has_encoders_inside:
            network |= inside_checkpoint(encoders)
        save(models / "checkpoints" / f"{name}.safetensors", network)
    else:
        save(models / "diffusion_models" / f"{name}.safetensors", network)
        save(models / "vae" / f"{name}.safetensors", vae)
    if not form.has_encoders_inside:
        for encoder, weights in encoders.items():
            file = models / "text_encoders" / encoder_file(name, encoder)
            save(file, weights | {"shrunk": as_bytes(sizes_of(encoder, form))})
    return said


def encoder_file(name: str, encoder: str) -> str:
    """Its name among the text encoders."""
    return f"{name}_{encoder}.safetensors"


def network_weights(name: str) -> tuple[Weights, dict[str, Any]]:
    """A network's file, and what ComfyUI's detection would have got otherwise."""
    case, settings = CASES[name], {**CASES[name].network, **FORMS[name].network}
    config = case.config(dict(settings))
    config.set_inference_dtype(torch.float32, None)
    network = config.get_model({}, device="cpu").diffusion_model
    randomise(network, seed=1)
    weights = as_published(network.state_dict())
    said = unseen(weights, settings, case.config)
    return halved(weights) | {"shrunk": as_bytes(said)}, said


def unseen(weights: Weights, settings: Mapping[str, Any], config: type) -> dict[str, Any]:
    """The settings that ComfyUI's detection reads off these weights otherwise, or not at all; and the family's class,
    where it does not find it."""
    seen = comfy.model_detection.detect_unet_config(weights, "")
    network = {key: value for key, value in settings.items() if key not in seen or seen[key] != value}
    found = next((known for known in supported_models.models if known.matches(seen | network, weights)), None)
    return {"network": network} | ({} if found is config else {"class": config.__name__})


def as_published(weights: Weights) -> Weights:
    """Flux' line calls the weights of its norms scale."""
    return {name.replace("_norm.weight", "_norm.scale") if "_blocks." in name and ".norm." in name else name: value
            for name, value in weights.items()}


def encoder_weights(name: str) -> Weights:
    """A text encoder's file."""
    encoder = ENCODERS[name]
    options = {f"{name}_model_config": dict(encoder.sizes), "model_name": name}
    eyes = qwen_vl.Qwen2VLVisionTransformer
    with mock.patch.object(qwen_vl, eyes.__name__, lambda **published: eyes(**published | VISION)):
        part = encoder.make(device="meta", dtype=torch.float32, model_options=options).transformer
    return halved(random_like(part.state_dict()))


def vae_weights(kind: str) -> Weights:
    """A VAE's file: its latents are of about unit size, its pictures not all grey."""
    vae = VAES[kind]()
    randomise(vae, seed=2)
    weights = {name: value for name, value in vae.state_dict().items()
               if not name.endswith("num_batches_tracked")}
    return {name: value.float() for name, value in weights.items()} | {"shrunk": as_bytes({})}


def inside_checkpoint(encoders: Mapping[str, Weights]) -> Weights:
    """SDXL's two encoders as its checkpoints name them."""
    inside = {f"{name}.transformer.{key}": value for name, weights in encoders.items()
              for key, value in weights.items()}
    config = CASES["sdxl"].config(dict(CASES["sdxl"].network))
    said = {"encoders": {name: dict(ENCODERS[name].sizes) for name in encoders}}
    return config.process_clip_state_dict_for_saving(inside) | {
        f"{SDXL_PREFIXES['clip_g']}.shrunk": as_bytes(said)}


def sizes_of(name: str, form: Form) -> dict[str, Any]:
    """What a text encoder's file says."""
    encoder = ENCODERS[name]
    return {"kind": encoder.kind, "encoders": {name: dict(encoder.sizes)}, "vision": VISION,
            "rows": {name: form.rows[name]} if name in form.rows else {}}


def random_like(weights: Weights) -> Weights:
    """Matrices N(0, 1 / fan-in), gains near 1, biases near 0, as `networks.randomise` draws them."""
    generator, drawn = torch.Generator().manual_seed(3), {}
    for name, value in weights.items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            drawn[name] = noise / math.sqrt(max(1, value[0].numel()))
        else:
            drawn[name] = float(name.endswith("weight")) + 0.02 * noise
    return drawn


def halved(weights: Weights) -> Weights:
    """In 16 bits."""
    return {name: value.bfloat16() for name, value in weights.items()}


def prefixed(weights: Weights, prefix: str) -> Weights:
    """The same under longer names."""
    return {f"{prefix}{name}": value for name, value in weights.items()}


def as_bytes(said: Mapping[str, Any]) -> Tensor:
    """What the file says of itself, for the custom node `shrunk`."""
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def save(path: Path, weights: Weights) -> None:
    """Write a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
