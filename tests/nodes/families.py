"""Random models with the true structure of each family, reduced in depth and width, loaded by ComfyUI's own loader.

SD1.5, SD2.1 (v-prediction), SDXL, SD3, SD3.5 (dual attention) and Flux, each with its real tokenizers and stock text
encoder classes; ComfyUI detects the network from the file's keys. Mechanics are real, pictures are noise. Every other
family is a case of `benchmarks/every_family`, whose networks these are too.
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
import pytest
import torch
from comfy import sd1_clip, sdxl_clip, supported_models, supported_models_base
from comfy.taesd.taesd import TAESD
from comfy.text_encoders import sd2_clip
from safetensors.torch import save_file
from tiny_model import random_weights
from torch import Tensor

from comfyui_personalize.benchmarks.every_family.case import WIDTH as TEXT
from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.cases.unets import SIZE_IDS
from comfyui_personalize.benchmarks.every_family.clips import SMALL as TEXT_OPTIONS
from comfyui_personalize.benchmarks.every_family.clips import SmallSD3Text


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

    Its network's settings are those of the case of the same name in `benchmarks/every_family/cases`.

    Attributes:
        config: ComfyUI's class of the family, that detection finds by the reduced sizes.
        channels: of the latents.
        prediction: what the network puts out.
        encoders: tokenizer keys of its text encoders.
        has_cross_attention: whether image and text attend in layers of their own (UNet) or jointly.
        finish: changes of the network's weights before they are saved.
    """

    config: type[supported_models_base.BASE]
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


FAMILIES: dict[str, Family] = {
    "sd15": Family(
        config=SmallSD15, channels=4, prediction="epsilon", encoders=("l",), has_cross_attention=True),
    "sd21": Family(
        config=SmallSD21, channels=4, prediction="v_prediction", encoders=("h",), has_cross_attention=True,
        finish=_marked_as_v),
    "sdxl": Family(
        config=SmallSDXL, channels=4, prediction="epsilon", encoders=("g", "l"), has_cross_attention=True),
    "sd3": Family(
        config=SmallSD3, channels=16, prediction="flow", encoders=("g", "l", "t5xxl"), has_cross_attention=False),
    "sd35": Family(
        config=SmallSD3, channels=16, prediction="flow", encoders=("g", "l", "t5xxl"), has_cross_attention=False),
    "flux": Family(
        config=SmallFlux, channels=16, prediction="flow", encoders=("l", "t5xxl"), has_cross_attention=False,
        finish=_as_published),
}
JOINT = tuple(name for name, family in FAMILIES.items() if not family.has_cross_attention)
"""Families of joint attention, without a UNet."""


def each(*quick: str) -> list[Any]:
    """All families, to parametrize with; in `make test` these alone."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.full) for name in FAMILIES]


@functools.cache
def family_checkpoint(name: str, seed: int = 0) -> Path:
    """A checkpoint file of random weights (10 to 30 MB), as the family's own files are laid out."""
    family, generator = FAMILIES[name], torch.Generator().manual_seed(seed)
    config = family.config(dict(CASES[name].network))
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
    return load_checkpoint(family_checkpoint(name, seed), **options)


def load_checkpoint(path: Path, **options: Any) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the file of a small family, as it was written or stored in another way."""
    known = [family.config for family in FAMILIES.values()]
    supported_models.models[:0] = known  # before the stock classes, which match MMDiT and Flux too
    try:
        with torch.inference_mode():
            return comfy.sd.load_checkpoint_guess_config(str(path), model_options=options,
                                                         te_model_options=TEXT_OPTIONS)[:3]
    finally:
        del supported_models.models[:len(known)]  # the other tests' tiny model has the sizes of one of them
