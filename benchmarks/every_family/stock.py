"""What stock ComfyUI makes of a case: the reference of every figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from torch import Tensor

from .case import Entry, noise


def stock_step(model: Any, entry: Entry, latent: Tensor, sigma: float, seed: int = 7) -> Tensor:
    """The clean latents (as a LATENT holds them) that stock sampling sees in a noisy picture, at cfg 1: one Euler step
    from the noise level sigma to 0."""
    with torch.inference_mode():
        forget_text(model)
        cond = [list(entry)]
        sampler = comfy.samplers.sampler_object("euler")
        return comfy.sample.sample_custom(model, noise(*latent.shape, seed=seed), 1.0, sampler,
                                          torch.tensor([sigma, 0.0]), cond, cond, latent.clone(), disable_pbar=True,
                                          seed=seed).clone()


def forget_text(model: Any) -> None:
    """Begin as a new process does: HiDream-O1 keeps keys and values of the last texts, whatever its weights became."""
    getattr(model.model.diffusion_model, "clear_kv_cache", lambda: None)()


def matched_layers(model: Any, file: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many layers of a LoRA file the stock loader finds in the MODEL, and how many there are."""
    layers = {name.rsplit(".lora_", 1)[0].removesuffix(".alpha") for name in file}
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    loaded = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(file)), keys, log_missing=False)
    return len(loaded), len(layers)


def with_lora(model: Any, file: Mapping[str, Tensor]) -> Any:
    """The MODEL as stock LoraLoaderModelOnly gives it."""
    with torch.inference_mode():
        return comfy.sd.load_lora_for_models(model, None, dict(file), 1.0, 0)[0]
