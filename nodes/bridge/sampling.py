"""Previews: pictures by ComfyUI's own samplers from a clone patched with the weights so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.sample
import comfy.sd
import comfy.utils
import torch
from comfy.patcher_extension import PatcherInjection
from torch import Tensor

from .model import is_quantised
from .sockets import PreviewSettings

BYPASS = "bypass_lora"
"""Where ComfyUI keeps adapters that are computed beside the weights."""


def patched(model: Any, clip: Any, lora: Mapping[str, Tensor], strength_model: float = 1.0,
            strength_clip: float = 1.0) -> tuple[Any, Any]:
    """Clones of MODEL and CLIP with the adapter on top, as the stock LoraLoader makes them.

    Weights of 8 bits cannot hold what is added to them: such a MODEL computes the adapter beside them, as the stock
    bypass LoRA loader has it, on top of the ones that it computes already.
    """
    if not is_quantised(model):
        return comfy.sd.load_lora_for_models(model, clip, dict(lora), strength_model, strength_clip)
    models = comfy.sd.load_bypass_lora_for_models(model, clip, dict(lora), strength_model, strength_clip)
    for patcher, before in zip(models, (model, clip), strict=True):
        _keep_earlier(getattr(patcher, "patcher", patcher), getattr(before, "patcher", before))
    return models


def _keep_earlier(patcher: Any, before: Any) -> None:
    """Keep the bypassed adapters that were there before, which the stock function replaces by the new ones.

    They wrap a layer's forward one around the other, so they go out in the opposite order.
    """
    earlier = [] if before is None else before.injections.get(BYPASS, [])
    new = [] if patcher is None else patcher.injections.get(BYPASS, [])
    if earlier and new != earlier:
        both = [*earlier, *new]
        patcher.set_injections(BYPASS, [PatcherInjection(
            inject=lambda model: [one.inject(model) for one in both],
            eject=lambda model: [one.eject(model) for one in reversed(both)])])


def sample_preview(model: Any, clip: Any, vae: Any, settings: PreviewSettings, size: int) -> Tensor:
    """One picture (1, size, size, 3) of the preview's prompt. The global random state is left as it was."""
    devices = [model.load_device.index or 0] if model.load_device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices=devices):
        positive, negative = (conditioning(clip, text) for text in (settings.prompt, settings.negative_prompt))
        latent = empty_latent(model, vae, size)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(settings.seed))
        samples = comfy.sample.sample(model, noise, settings.steps, settings.cfg, settings.sampler, settings.scheduler,
                                      positive, negative, latent, seed=settings.seed, disable_pbar=True)
        picture = vae.decode(samples)
    return picture.reshape(-1, *picture.shape[-3:])[:1].clone()


def conditioning(clip: Any, text: str) -> list[list[Any]]:
    """A CONDITIONING, as CLIPTextEncode makes it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text), show_pbar=False)


def empty_latent(model: Any, vae: Any, size: int) -> Tensor:
    """Zeros (1, C, h, w) of the model's own latent channels."""
    cells = size // vae.downscale_ratio if isinstance(vae.downscale_ratio, int) else size // 8
    zeros = torch.zeros(1, model.get_model_object("latent_format").latent_channels, cells, cells)
    return comfy.sample.fix_empty_latent_channels(model, zeros)
