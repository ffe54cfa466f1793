"""The loaded MODEL as `core` trains it: what it predicts, its noise schedule, the names of its adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_sampling
import comfy.utils
import torch
from torch import Tensor, nn

from ....core.errors import InputError, require
from ....core.learning.adapter import is_eight_bit
from ....core.model.contracts import Conditioning
from ....core.model.schedule import NoiseSchedule, Prediction
from .conditions import Conditions, calls_of, conditions_of, joined
from .families import family_of
from .gradients import training_options
from .latent_shapes import has_frames
from .padding import are_masked, padded, reads_masks
from .raw_prediction import predict

TOLD_DOWNSCALE = 8
"""Pixels per latent of the families that are told the size of their pictures."""


class ComfyDenoiser:
    """`core.model.contracts.Denoiser` over a loaded MODEL.

    Args:
        model: the MODEL's patcher, loaded.
        size: width and height of square training images in pixels, for models that are told it (SDXL).

    Rows are one network call as far as the model's own conditions of them can be stacked; texts of other lengths are
    padded where the network reads a mask over them.
    """

    def __init__(self, model: Any, size: int):
        self.model, self.size = model.model, size
        self.module: nn.Module = self.model.diffusion_model
        self.schedule = schedule_of(model)
        self.adapter_keys = unet_adapter_keys(model)
        self.may_repeat_text = family_of(model).has_cross_attention
        self.device: torch.device = model.load_device
        self._reads_masks: bool | None = None  # nobody asked yet

    def __call__(self, noisy: Tensor, index: Tensor, rows: Sequence[Conditioning]) -> Tensor:
        noisy, index = noisy.to(self.device), index.to(self.device)
        if has_frames(self.model):
            noisy = noisy.unsqueeze(2)
        conditions = self._conditions(noisy, rows)
        calls = calls_of(conditions, self.may_repeat_text)
        if len(calls) > 1:
            conditions = self._padded(noisy, index, rows, len(calls)) or conditions
            calls = calls_of(conditions, self.may_repeat_text)
        if len(calls) == 1:
            output = self._predict(noisy, index, conditions)
        else:
            parts = [self._predict(noisy[call], index[call], [conditions[number] for number in call]) for call in calls]
            order = torch.tensor([number for call in calls for number in call], device=self.device)
            output = torch.cat(parts)[order.argsort()]
        return output.squeeze(2) if has_frames(self.model) else output

    def _conditions(self, noisy: Tensor, rows: Sequence[Conditioning]) -> list[Conditions]:
        return [conditions_of(self.model, row, noisy[number:number + 1], self._pixels(noisy))
                for number, row in enumerate(rows)]

    def _padded(self, noisy: Tensor, index: Tensor, rows: Sequence[Conditioning],
                calls: int) -> list[Conditions] | None:
        """The conditions of rows of one length, where those are fewer calls and the same predictions."""
        lengths = [row.context.shape[1] for row in rows]
        if self._reads_masks is False or len(set(lengths)) == 1:
            return None
        made = self._conditions(noisy, [padded(row, max(lengths)) for row in rows])
        if not are_masked(made) or len(calls_of(made, False)) >= calls:
            return None
        if self._reads_masks is None:
            short = lengths.index(min(lengths))
            one, level = noisy[short:short + 1], index[short:short + 1]
            self._reads_masks = reads_masks(lambda row: self._predict(one, level, self._conditions(one, [row])),
                                            rows[short], max(lengths))
        return made if self._reads_masks else None

    def _predict(self, noisy: Tensor, index: Tensor, rows: Sequence[Conditions]) -> Tensor:
        return predict(self.model, noisy, index, self.schedule.timesteps, training_options(), joined(rows))

    def _pixels(self, noisy: Tensor) -> tuple[int, int]:
        """Height and width in pixels, as stock sampling tells them."""
        high, wide = noisy.shape[-2:]
        return (self.size, self.size) if high == wide else (high * TOLD_DOWNSCALE, wide * TOLD_DOWNSCALE)


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
    if sigmas is not None and not isinstance(sampling, (kind.X0, kind.IMG_TO_IMG_FLOW)):
        sigmas = sigmas.detach().clone()
        if isinstance(sampling, kind.COSMOS_RFLOW):
            return _cosmos_flow(sampling, sigmas)
        timesteps = sampling.timestep(sigmas)
        if isinstance(sampling, kind.CONST):
            return NoiseSchedule.rectified_flow(sigmas, timesteps, float(getattr(sampling, "noise_scale", 1.0)))
        if isinstance(sampling, kind.EPS):  # EDM's networks are v-prediction but for the sign: see `RawSampling`
            prediction: Prediction = "v_prediction" if isinstance(sampling, kind.V_PREDICTION) else "epsilon"
            data_std = float(getattr(sampling, "sigma_data", 1.0))
            return NoiseSchedule.variance_preserving(prediction, sigmas, timesteps, data_std)
    names = " / ".join(base.__name__ for base in type(sampling).__bases__)
    raise InputError("model", f"a model with {names} sampling", "a model with eps, v or flow prediction",
                     "Use a Stable Diffusion 1.x / 2.x / XL checkpoint.")


def _cosmos_flow(sampling: Any, k_sigmas: Tensor) -> NoiseSchedule:
    """Rectified flow at times k / (1 + k), evenly spread: the sampler's own levels crowd at both ends."""
    low, high = (float(k / (1 + k)) for k in (k_sigmas.min(), k_sigmas.max()))
    times = torch.linspace(low, high, len(k_sigmas))
    return NoiseSchedule.rectified_flow(times, sampling.timestep(times / (1 - times)))


def check_model(model: Any, has_references: bool = False) -> None:
    """Raise `InputError` for a MODEL that cannot be trained, before anything is loaded.

    Args:
        has_references: whether every photo has a picture that the model can read beside the noise.
    """
    schedule_of(model)
    require(not needs_picture(model) or has_references and not has_frames(model.model), "model",
            "a model that reads a picture beside the noise (edit, image to video)",
            "a text-to-image or inpainting model, or a reference image with every photo of an edit model",
            "Connect the base checkpoint, or reference images to Subject Photos.")
    require(not family_of(model).is_upscaler, "model", "an upscaler",
            "a text-to-image model", "Use Personalize Super-Resolution for the upscaler.")


def needs_picture(model: Any) -> bool:
    """Whether the network reads channels beside the noise that are no inpainting mask with its picture: those may be
    left out, which stands for a full mask."""
    base, cells = model.model, 8
    channels = model.get_model_object("latent_format").latent_channels
    noise = torch.zeros(1, channels, *([1] if has_frames(base) else []), cells, cells)
    given = {"noise": noise, "latent_image": noise, "device": noise.device}
    whole = base.concat_cond(**given)
    if whole is None or has_frames(base):
        return whole is not None
    return torch.equal(whole, base.concat_cond(**given, denoise_mask=torch.zeros(1, 1, cells, cells)))


def is_inpainting(model: Any) -> bool:
    """Whether the network reads a mask and the picture around it beside the noise."""
    if needs_picture(model) or has_frames(model.model):
        return False
    noise = torch.zeros(1, model.get_model_object("latent_format").latent_channels, 8, 8)
    return model.model.concat_cond(noise=noise, latent_image=noise, device=noise.device) is not None


def reads_references(model: Any) -> bool:
    """Whether the model's family takes reference latents, as ReferenceLatent hands them on."""
    channels = model.get_model_object("latent_format").latent_channels
    shape = (1, channels, *([1] if has_frames(model.model) else []), 8, 8)
    return "ref_latents" in model.model.extra_conds_shapes(reference_latents=[torch.zeros(shape)])


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
