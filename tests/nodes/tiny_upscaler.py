"""Stable Diffusion's x4 upscaler at reduced depth and width, random weights, from ComfyUI's own loader; and its VAE."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.ldm.models.autoencoder as autoencoder
import comfy.sd
import torch
from comfy import supported_models, supported_models_base
from comfy.text_encoders import sd2_clip
from families import TEXT, TEXT_OPTIONS, with_small_embeddings
from safetensors.torch import save_file
from tiny_model import random_weights

from comfyui_personalize.benchmarks.every_family.cases.unets import UNET

NETWORK = UNET | {
    "in_channels": 7, "model_channels": 32, "channel_mult": [1, 2, 2, 4], "num_res_blocks": [1, 1, 1, 1],
    "transformer_depth": [0, 1, 1, 1], "transformer_depth_output": [0, 0, 1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1, "context_dim": TEXT, "use_linear_in_transformer": True}
VAE_CONFIG = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
              "ch_mult": [1, 2, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
"""ComfyUI fixes the width of this VAE."""


class SmallUpscaler(supported_models.SD_X4Upscaler):
    unet_config = supported_models.SD_X4Upscaler.unet_config | {"context_dim": TEXT, "model_channels": 32}

    def clip_target(self, state_dict: Mapping | None = None) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(with_small_embeddings(sd2_clip.SD2Tokenizer), sd2_clip.SD2ClipModel)


@functools.cache
def upscaler_checkpoint(seed: int = 0) -> Path:
    """A checkpoint of network and text encoder."""
    generator = torch.Generator().manual_seed(seed)
    config = SmallUpscaler(dict(NETWORK))
    network = config.get_model({}, device="meta").diffusion_model
    weights = random_weights(network, "model.diffusion_model.", generator)
    text = config.clip_target({}).clip(device="meta", dtype=torch.float16, model_options=TEXT_OPTIONS)
    weights |= config.process_clip_state_dict_for_saving(random_weights(text, "", generator))
    folder = Path(tempfile.mkdtemp(prefix="personalize-upscaler-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save_file({key: value.half().contiguous() for key, value in weights.items()}, folder / "upscaler.safetensors")
    return folder / "upscaler.safetensors"


@functools.cache
def upscaler_vae() -> Any:
    """A random VAE of the upscaler's structure: 4 channels at a quarter of the size."""
    with torch.inference_mode():
        with torch.device("meta"):
            module = autoencoder.AutoencoderKL(ddconfig=VAE_CONFIG, embed_dim=4)
        return comfy.sd.VAE(sd=random_weights(module, "", torch.Generator().manual_seed(0)))


@contextmanager
def known_to_the_loader() -> Iterator[None]:
    """Within the context ComfyUI's loader knows the small upscaler."""
    supported_models.models.insert(0, SmallUpscaler)
    try:
        yield
    finally:
        supported_models.models.remove(SmallUpscaler)


def upscaler_models(seed: int = 0) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE: new objects at every call, but for the VAE."""
    with known_to_the_loader(), torch.inference_mode():
        model, clip = comfy.sd.load_checkpoint_guess_config(
            str(upscaler_checkpoint(seed)), output_vae=False, te_model_options=TEXT_OPTIONS)[:2]
    return model, clip, upscaler_vae()
