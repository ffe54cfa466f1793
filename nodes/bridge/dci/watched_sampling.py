"""A sampling run whose DCI masks are recorded, and drawn into its live preview."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ....core.dci.observation import Kind, MaskRecorder, stretch
from ....core.dci.sheets import blend
from ....core.errors import require
from .dual_branch import dual_branch_of, record_masks
from .dual_prompt import CONDITIONING_KEY

PREVIEW_MASK = 64
"""Height and width of the mask that is drawn into the preview; it is scaled up to the picture."""


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """What a KSampler is told."""

    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float = 1.0


def check_positive(positive: list[Any]) -> None:
    """Raise `InputError` for a CONDITIONING without an auxiliary prompt, or one that covers a region only."""
    marked = [extra for _, extra in positive if CONDITIONING_KEY in extra]
    require(bool(marked), "positive", "a conditioning without an auxiliary prompt", "one from DCI Conditioning",
            "Connect the CONDITIONING output of DCI Conditioning.")
    require(not any("area" in extra for extra in marked), "positive", "a conditioning for a region",
            "one for the whole picture", "Leave out Set Area: masks of a region have no place in the sheet.")


def sample_watched(model: Any, positive: list[Any], negative: list[Any], latent: Mapping[str, Any],
                   settings: SamplerSettings, overlay: bool) -> tuple[dict[str, Any], MaskRecorder]:
    """What a stock KSampler makes of these inputs, bit by bit, and what DCI's layers saw meanwhile.

    Raises:
        InputError: for a MODEL or CONDITIONING without DCI, and where DCI has nothing to do, because the window is 0
            or the run starts after it.
    """
    check_positive(positive)
    sampling = dual_branch_of(model)
    require(sampling is None or sampling.config.aggregation == "masks", "options", "branches added without masks",
            "DCI with masks", "Set aggregation to 'masks' in DCI Options.")
    samples = comfy.sample.fix_empty_latent_channels(
        model, latent["samples"], latent.get("downscale_ratio_spacial"), latent.get("downscale_ratio_temporal"))
    recorder = MaskRecorder(*samples.shape[-2:])
    watched = record_masks(model, recorder)
    noise = comfy.sample.prepare_noise(samples, settings.seed, latent.get("batch_index"))
    sampled = comfy.sample.sample(
        watched, noise, settings.steps, settings.cfg, settings.sampler, settings.scheduler, positive, negative, samples,
        denoise=settings.denoise, noise_mask=latent.get("noise_mask"), seed=settings.seed,
        callback=preview_callback(watched, settings.steps, recorder if overlay else None),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED)
    require(not recorder.is_empty, "window", "a run in which DCI was active at no step", "one step or more",
            "Raise active until (window) in DCI Model, or denoise here.")
    dropped = ("downscale_ratio_spacial", "downscale_ratio_temporal", "samples")
    return {**{name: value for name, value in latent.items() if name not in dropped}, "samples": sampled}, recorder


def preview_callback(
    model: Any, steps: int, recorder: MaskRecorder | None
) -> Callable[[int, Tensor, Tensor, int], None]:
    """ComfyUI's preview after every step, tinted by the masks so far; without a recorder, as it is."""
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    bar = comfy.utils.ProgressBar(steps)

    def callback(step: int, denoised: Tensor, latents: Tensor, total: int) -> None:
        preview = None
        if previewer is not None:
            kind, picture, limit = previewer.decode_latent_to_preview_image("JPEG", denoised)
            if recorder is not None and not recorder.is_empty:
                picture = blend(picture, stretch(recorder.mean("mask", PREVIEW_MASK, PREVIEW_MASK)[:1])[0])
            preview = (kind, picture, limit)
        bar.update_absolute(step + 1, total, preview)

    return callback


def picture_mask(recorder: MaskRecorder, kind: Kind, model: Any, threshold: float) -> Tensor:
    """The maps as a MASK (B, H, W) at picture size: stretched to 0..1, or cut at the threshold where it is above 0."""
    scale = getattr(model.model.latent_format, "spacial_downscale_ratio", 8)
    mask = stretch(recorder.mean(kind, recorder.height * scale, recorder.width * scale))
    return mask if threshold <= 0 else (mask >= threshold).to(torch.float32)
