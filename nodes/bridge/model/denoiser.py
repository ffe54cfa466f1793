"""The loaded MODEL as `core` trains it: what it predicts, its noise schedule, the names of its adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_sampling
import comfy.utils
import torch
from torch import Tensor, nn

from ....core.errors import InputError, require
from ....core.learning.adapter import is_eight_bit
from ....core.model.contracts import Conditioning
from ....core.model.schedule import NoiseSchedule
from .families import family_of
from .gradients import training_dtype, training_options

SDXL_DOWNSCALE = 8
"""Pixels per latent of the family that is told the size of its pictures."""


class ComfyDenoiser:
    """`core.model.contracts.Denoiser` over a loaded MODEL.

    Args:
        model: the MODEL's patcher, loaded.
        size: width and height of square training images in pixels, for models that are told it (SDXL).
    """

    def __init__(self, model: Any, size: int):
        self.model, self.size = model.model, size
        self.module: nn.Module = self.model.diffusion_model
        self.schedule = schedule_of(model)
        self.adapter_keys = unet_adapter_keys(model)
        self.may_repeat_text = family_of(model).has_cross_attention
        self.device: torch.device = model.load_device

    def __call__(self, noisy: Tensor, index: Tensor, conditioning: Conditioning) -> Tensor:
        dtype = training_dtype(self.model)
        noisy = noisy.to(self.device, dtype)
        timestep = self.schedule.timesteps.to(self.device)[index.to(self.device)]
        extra = self._extra_conditions(noisy, conditioning, dtype)
        timestep = self.model.process_timestep(timestep, x=noisy, **extra)
        context = conditioning.context.to(self.device, dtype)
        output = self.module(noisy, timestep, context=context, control=None,
                             transformer_options=training_options(), **extra)
        return output.float()

    def _extra_conditions(self, noisy: Tensor, conditioning: Conditioning, dtype: torch.dtype) -> dict[str, Tensor]:
        """What the model's family adds to the context: pooled text and size ids for SDXL, guidance for Flux."""
        pooled = None if conditioning.pooled is None else conditioning.pooled.to(self.device)
        rows, _, high, wide = noisy.shape
        height, width = (self.size, self.size) if high == wide else (high * SDXL_DOWNSCALE, wide * SDXL_DOWNSCALE)
        conditions = self.model.extra_conds(
            cross_attn=conditioning.context, pooled_output=pooled, width=width, height=height,
            noise=noisy, device=self.device, prompt_type="positive")
        conditions.pop("c_crossattn", None)
        processed = {name: value.process_cond(batch_size=rows, area=None, device=self.device).cond
                     for name, value in conditions.items()}
        return {name: value.to(self.device, dtype if value.is_floating_point() else None)
                if torch.is_tensor(value) else value for name, value in processed.items()}


def schedule_of(model: Any) -> NoiseSchedule:
    """The MODEL's own noise schedule and prediction, as other nodes may have patched it.

    Raises:
        InputError: for a family whose forward process is none of eps, v and flow.
    """
    return schedule_of_sampling(model.get_model_object("model_sampling"))


def schedule_of_sampling(sampling: Any) -> NoiseSchedule:
    """The same of a model's own `model_sampling`.

    Raises:
        InputError: likewise.
    """
    kind, sigmas = comfy.model_sampling, getattr(sampling, "sigmas", None)
    unsupported = (kind.EDM, kind.X0, kind.IMG_TO_IMG_FLOW)
    if sigmas is not None and not isinstance(sampling, unsupported):
        sigmas = sigmas.detach().clone()
        timesteps = sampling.timestep(sigmas)
        if isinstance(sampling, kind.CONST):
            return NoiseSchedule.rectified_flow(sigmas, timesteps)
        if isinstance(sampling, kind.EPS) and getattr(sampling, "sigma_data", 1.0) == 1.0:
            prediction = "v_prediction" if isinstance(sampling, kind.V_PREDICTION) else "epsilon"
            return NoiseSchedule.variance_preserving(prediction, sigmas, timesteps)  # type: ignore[arg-type]
    names = " / ".join(base.__name__ for base in type(sampling).__bases__)
    raise InputError("model", f"a model with {names} sampling", "a model with eps, v or flow prediction",
                     "Use a Stable Diffusion 1.x / 2.x / XL checkpoint.")


def check_model(model: Any) -> None:
    """Raise `InputError` for a MODEL that cannot be trained, before anything is loaded."""
    schedule_of(model)
    require(not getattr(model.model, "concat_keys", ()), "model", "an inpainting or edit model",
            "a plain text-to-image model", "Connect the base checkpoint; its result also works in inpainting.")
    require(not family_of(model).is_upscaler, "model", "an upscaler",
            "a text-to-image model", "Use Personalize Super-Resolution for the upscaler.")


def unet_adapter_keys(model: Any) -> Mapping[str, str]:
    """For each module path of the diffusion model the stem of its adapter keys, and for each parameter that is neither
    weight nor bias its own.

    They are those of kohya's files, which stock LoraLoader and diffusers read: UNets have diffusers' names in them,
    other networks their own.
    """
    keys = {path: f"lora_unet_{path.replace('.', '_')}" for path, _ in model.model.diffusion_model.named_modules()}
    for diffusers_name, weight in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items():
        path = weight.removesuffix(".weight")
        if path != weight and path in keys:
            keys[path] = f"lora_unet_{diffusers_name.removesuffix('.weight').replace('.', '_')}"
    return keys | {name: f"diffusion_model.{name}" for name, _ in model.model.diffusion_model.named_parameters()
                   if not name.endswith((".weight", ".bias"))}


def is_quantised(model: Any) -> bool:
    """Whether the MODEL's weights are stored in 8 bits or less, where a merged adapter is rounded away in part."""
    return has_eight_bit_weights(model.model.diffusion_model)


def has_eight_bit_weights(module: nn.Module) -> bool:
    """Whether some of a network's weights are stored in 8 bits or less, or packed."""
    return any(map(is_eight_bit, module.parameters()))
