"""A run that fine-tunes an upscaler on the subject's photos: its pairs, its trainer, and what is refused beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ....core.data.examples import Example, TrainingData
from ....core.data.low_res_pairs import SCALE, cut, low_res
from ....core.errors import require
from ....core.learning.adapter import find_targets
from ....core.objectives import prepared_data
from ....core.objectives.super_resolution import SuperResolution
from ....core.store.runs import check_run_name
from ....core.training.trainer import Trainer
from ..model.gradients import casting_layers, free_memory, static_patcher, trainable
from ..output import runs_root
from ..photos.latents import encode_photos, square_pixels
from ..sockets import Personalization
from ..text.encoder import ComfyTextEncoder
from ..training.plan import Plan, make_plan
from ..training.request import Request
from ..training.run import run
from .upscaler import UpscalerDenoiser, check_upscaler

PROGRAMS = ("ComfyUI: LoraLoader and LoadPersonalization, on the upscaler that it was trained on",)
"""Those that read its adapter file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UpscalerRequest(Request):
    """Everything that Personalize Super-Resolution was given; `config.resolution` is the side of the high-res photo."""

    @property
    def pairs(self) -> SuperResolution:
        """How pairs are made."""
        return SuperResolution.among(self.config.objectives)


def personalize_upscaler(request: UpscalerRequest) -> Personalization:
    """Train, resume or load the run that the request describes.

    Raises:
        InputError: for input that cannot be used; nothing was loaded.
        StorageError: for a full disk; the last good state is kept.
        TrainingDiverged: for NaN; the last good state is kept.
    """
    return run(check(request), prepared_pairs, [])


def nothing(request: UpscalerRequest) -> Personalization:
    """The result of no fine-tuning: no tensors, and the level that the upscaler is used with."""
    report = f"no fine-tuning: the upscaler is as it was, for noise level {request.pairs.level}"
    return Personalization(lora={}, metadata={}, file=runs_root(), report=report)


def blocked() -> tuple[ExecutionBlocker, ExecutionBlocker]:
    """In place of LORA_MODEL and PERSONALIZATION where there is nothing to save: what saves them is passed over."""
    return ExecutionBlocker(None), ExecutionBlocker(None)


def check(request: UpscalerRequest) -> Plan[UpscalerRequest]:
    """The plan of a request.

    Raises:
        InputError: for everything that can be refused before a model is loaded or a photo encoded.
    """
    check_run_name(request.run_name)
    check_models(request.model, request.clip, request.vae)
    find_targets(request.model.model.diffusion_model, request.config.options.adapter)
    crop, resolution = request.pairs.crop, request.config.resolution
    require(crop <= resolution, "crop", crop, f"at most the resolution, {resolution} pixels", f"Use {resolution}.")
    return make_plan(request, PROGRAMS)


def check_models(model: Any, clip: Any, vae: Any) -> None:
    """Raise `InputError` unless the three belong to one upscaler."""
    require(clip is not None, "clip", "nothing", "the CLIP of the upscaler",
            "This checkpoint has no text encoder; load the one that belongs to it.")
    check_upscaler(model, vae)
    width = sum(ComfyTextEncoder(clip).widths.values())
    wanted = model.model.model_config.unet_config["context_dim"]
    require(width == wanted, "clip", f"a CLIP of width {width}", f"width {wanted}, which this upscaler reads",
            "Connect the CLIP of the upscaler's own checkpoint.")


def warnings_about_pairs(request: UpscalerRequest) -> list[str]:
    """Photos that hold less detail than they are asked to teach."""
    sides = [min(photo.pixels.shape[:2]) for subject in request.subjects for photo in subject.photos]
    small = [side for side in sides if side < request.config.resolution]
    if not small:
        return []
    return [f"{len(small)} of {len(sides)} photos are smaller than the resolution of {request.config.resolution} "
            f"pixels (the smallest has {min(small)}): enlarged photos teach blur; lower the resolution"]


def low_res_photos(request: UpscalerRequest) -> list[Tensor]:
    """The low-res picture (3, h, w) of every photo."""
    size = request.config.resolution
    return [low_res(square_pixels(photo.pixels, size)) for subject in request.subjects for photo in subject.photos]


def pair_data(request: UpscalerRequest, latents: Tensor) -> TrainingData:
    """One example per photo, its windows as views. `latents` are the VAE's own (N, C, h, w)."""
    window = request.pairs.crop // SCALE
    with torch.inference_mode(False), torch.no_grad():
        scaled = request.model.model.process_latent_in(latents.clone())
        cuts = [cut(row, low, window) for row, low in zip(scaled, low_res_photos(request), strict=True)]
    owners = [subject for subject in request.subjects for _ in subject.photos]
    return TrainingData(examples=tuple(
        Example(latents=views[0].latents, concat=views[0].concat, more_views=views[1:], caption=subject.caption,
                object_caption=subject.object_caption, class_noun=subject.class_noun, identifier=subject.identifier,
                photo=number)
        for number, (subject, views) in enumerate(zip(owners, cuts, strict=True))))


@contextmanager
def prepared_pairs(plan: Plan[UpscalerRequest]) -> Iterator[tuple[Trainer, Callable[[], None]]]:
    """The trainer inside the loaded upscaler; at the end, whatever it was, the upscaler is as it was."""
    request = plan.request
    unet, size, cells = static_patcher(request.model), request.config.resolution, request.pairs.crop // SCALE
    encoder = ComfyTextEncoder(request.clip, cache=(runs_root(), plan.hashes.text_encoder))
    latents = encode_photos(request.vae, request.subjects, size, runs_root(), plan.hashes.vae)
    data = prepared_data(request.config.objectives, pair_data(request, latents))
    encoder.encode(data.prompts())  # now, while the text encoder may still push the network out of memory
    channels = data.examples[0].latents.shape[0]
    memory = 3.0 * request.model.memory_required([request.rows, channels, cells, cells])
    with ExitStack() as stack:
        prepare = stack.enter_context(trainable(unet, memory=memory))
        stack.enter_context(casting_layers(unet.model))
        trainer = Trainer(denoiser=UpscalerDenoiser(unet, request.pairs.level), text_encoder=encoder, data=data,
                          config=request.config, free_bytes=free_memory(unet))
        yield stack.enter_context(trainer), prepare
