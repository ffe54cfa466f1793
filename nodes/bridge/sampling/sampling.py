"""Previews: pictures by ComfyUI's own samplers from a clone patched with the weights so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.sample
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ....core.data.examples import References
from ..model.bypass import load_beside
from ..model.conditions import with_frames
from ..model.denoiser import has_eight_bit_weights, is_quantised
from ..model.latent_shapes import pixels_per_latent
from ..model.rank_by_timestep import load_by_timestep
from ..sockets import PreviewSettings
from ..text.pictures import tokenize_with_pictures

TEXT_KEYS = ("lora_te", "text_encoder")
"""How the names of a text encoder's tensors begin in an adapter file."""


def patched(model: Any, clip: Any, lora: Mapping[str, Tensor], strength_model: float = 1.0,
            strength_clip: float = 1.0, min_rank: int = 0) -> tuple[Any, Any]:
    """Clones of MODEL and CLIP with the adapter on top, as the stock LoraLoader makes them.

    Weights of 8 bits cannot hold what is added to them: such a MODEL (or CLIP) computes the adapter beside them. So
    does a MODEL whose LoRA has fewer ranks at more noise.

    Args:
        min_rank: ranks at the highest noise; 0: the whole rank at every timestep.
    """
    load_model = load_beside if is_quantised(model) else comfy.sd.load_lora_for_models
    load_clip = load_beside if clip is not None and has_eight_bit_weights(clip.cond_stage_model) else \
        comfy.sd.load_lora_for_models
    if not min_rank and (clip is None or load_model is load_clip):
        return load_model(model, clip, dict(lora), strength_model, strength_clip)
    text = {name: tensor for name, tensor in lora.items() if name.startswith(TEXT_KEYS)}
    network = {name: tensor for name, tensor in lora.items() if name not in text}
    on_model = (load_by_timestep(model, network, strength_model, min_rank) if min_rank
                else load_model(model, None, network, strength_model, 0.0)[0])
    return on_model, clip and load_clip(None, clip, text, 0.0, strength_clip)[1]


def sample_preview(model: Any, clip: Any, vae: Any, settings: PreviewSettings, size: int,
                   shown: References | None = None) -> Tensor:
    """One picture (1, size, size, 3) of the preview's prompt. The global random state is left as it was.

    Args:
        shown: what an edit or inpainting model is shown beside the noise, with both prompts.
    """
    devices = [model.load_device.index or 0] if model.load_device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices=devices):
        positive, negative = (_beside(model, conditioning(clip, text, shown.pictures if shown else ()), shown)
                              for text in (settings.prompt, settings.negative_prompt))
        latent = empty_latent(model, vae, size)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(settings.seed))
        samples = comfy.sample.sample(model, noise, settings.steps, settings.cfg, settings.sampler, settings.scheduler,
                                      positive, negative, latent, seed=settings.seed, disable_pbar=True)
        picture = vae.decode(samples)
    return picture.reshape(-1, *picture.shape[-3:])[:1].clone()


def conditioning(clip: Any, text: str, pictures: Sequence[Tensor] = ()) -> list[list[Any]]:
    """A CONDITIONING, as CLIPTextEncode makes it, or of a text encoder that looks at pictures (H, W, 3) with it."""
    tokens = tokenize_with_pictures(clip, text, pictures) if pictures else clip.tokenize(text)
    return clip.encode_from_tokens_scheduled(tokens, show_pbar=False)


def _beside(model: Any, made: list[list[Any]], shown: References | None) -> list[list[Any]]:
    """A CONDITIONING with what is shown beside the noise."""
    conditions = shown.conditions() if shown else {}
    if "reference_latents" in conditions:
        conditions["reference_latents"] = with_frames(model.model, conditions["reference_latents"])
    return [[context, {**others, **conditions}] for context, others in made]


def empty_latent(model: Any, vae: Any, size: int) -> Tensor:
    """Zeros (1, C, h, w) of the model's own latent channels."""
    cells = size // (vae.downscale_ratio if isinstance(vae.downscale_ratio, int) else pixels_per_latent(model))
    zeros = torch.zeros(1, model.get_model_object("latent_format").latent_channels, cells, cells)
    return comfy.sample.fix_empty_latent_channels(model, zeros)
