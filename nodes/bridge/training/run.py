"""One training run in loaded ComfyUI models: what it is given, and how the models come back as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import comfy.model_management
import torch
from torch import Tensor

from ....core.data.examples import TrainingData
from ....core.model.storage import Placement
from ....core.training.memory_plan import OutOfMemory, watched
from ....core.training.run import Job, train_or_load
from ....core.training.trainer import Trainer
from ..model.denoiser import ComfyDenoiser
from ..model.gradients import casting_layers, free_memory, placed, static_clip, trainable
from ..model.latent_shapes import in_model_space
from ..notices import STOPPED, TRAINING, running_node, tell, warn_running_node
from ..output import runs_root
from ..photos.latents import encode_views, make_examples
from ..plain_paths import plain_paths
from ..progress import Progress, plot_losses
from ..sampling.sampling import patched, sample_preview
from ..sockets import Personalization, PreviewSettings
from ..text.encoder import ComfyTextEncoder, out_of_place_layers
from ..text.learned_vectors import CLIP_ENCODERS
from ..text.trainable_encoders import recomputed_layers
from .checks import check
from .control import Control, running
from .loop import NodeWatcher
from .memory import memory_plan
from .notes import note, note_picture
from .plan import Plan, TrainerPlan
from .references import preview_references, references_of
from .request import Request
from .token_vectors import image_text_in, preview_of, with_vectors

AnyPlan = TypeVar("AnyPlan", bound=Plan[Any])
Preparation = Callable[[AnyPlan], AbstractContextManager[tuple[Trainer, Callable[[], None]]]]
"""Loads the models of a plan; gives the trainer in them, and a function that makes them trainable again."""


def personalize(request: Request) -> tuple[Personalization, Tensor]:
    """Train, resume or load the run that the request describes: the result, and pictures (N, H, W, 3).

    Raises:
        InputError: for input that cannot be used; nothing was loaded.
        StorageError: for a full disk; the last good state is kept.
        TrainingDiverged: for NaN; the last good state is kept.
    """
    pictures: list[Tensor] = []
    result = run(check(request), prepared, pictures)
    if request.preview is not None:
        try:
            with watched():
                pictures.append(_last_preview(request, request.preview, result))
        except OutOfMemory as error:
            warn_running_node("memory was not enough for the last picture; what was learned is complete and handed on "
                              f"({error})")
    if pictures:
        note_picture(request, result.file.parent, pictures[-1][-1])
    return result, torch.cat(pictures) if pictures else plot_losses(result.losses, result.validation)


def _last_preview(request: Request, settings: PreviewSettings, result: Personalization) -> Tensor:
    """One picture (1, H, W, 3) by the finished personalization."""
    model, clip = patched(request.sampling_model, request.clip, result.lora, min_rank=request.config.options.min_rank)
    return sample_preview(model, with_vectors(clip, result.token_vectors), request.vae,
                          preview_of(settings, result.token_vectors), request.config.resolution,
                          preview_references(request))


def run(plan: AnyPlan, prepare: Preparation[AnyPlan], pictures: list[Tensor]) -> Personalization:
    """The run's result: loaded, or trained by what `prepare` gives; `pictures` takes the previews on the way.

    Raises:
        InputError: as `core.training.run.train_or_load`.
    """
    request = plan.request
    control = Control(run=plan.key, name=request.run_name, node=running_node() or "",
                      draws=isinstance(plan, TrainerPlan))

    @contextmanager
    def opening() -> Iterator[tuple[Trainer, NodeWatcher]]:
        bar = Progress(request.config.steps)
        try:
            with bar.heartbeat(), running(control), prepare(plan) as (trainer, again):
                yield trainer, NodeWatcher(request, trainer, bar, again, control, pictures)
        finally:
            tell(TRAINING, run=control.run, ended=True)

    job = Job(root=runs_root(), name=request.run_name, key=plan.key, config=request.config, describe=plan.describe,
              text_encoders=CLIP_ENCODERS, note=partial(note, request))
    try:
        done = train_or_load(job, opening)
    except comfy.model_management.InterruptProcessingException:
        if not control.is_told:  # while models were loaded or photos encoded
            tell(STOPPED, text="Stopped before a step was trained; nothing is lost. Press Run to go on")
        raise
    learned = done.result.learned
    return Personalization(lora=learned.adapter, metadata=done.result.metadata, file=done.file, losses=done.losses,
                           report=plain_paths(done.report), token_vectors=learned.token_vectors,
                           contexts=learned.contexts, validation=done.validation)


def held_out_data(plan: TrainerPlan) -> TrainingData | None:
    """The photos for validation, which are never trained on."""
    request = plan.request
    if request.validation is None or not request.validation.held_out:
        return None
    size = request.config.resolution
    latents = encode_views(request.vae, request.validation.held_out, size, runs_root(), plan.hashes.vae)
    data = TrainingData(examples=make_examples(request.model, request.validation.held_out, latents, size))
    return data.with_references(references_of(request, request.validation.held_out))


def encoded_data(plan: TrainerPlan) -> TrainingData:
    """What is trained on, with the latents of the photos."""
    request = plan.request
    latents = encode_views(request.vae, request.subjects, request.config.resolution, runs_root(), plan.hashes.vae)
    with torch.inference_mode(False), torch.no_grad():
        data = plan.data.with_latents([in_model_space(request.model, views) for views in latents])
        return data.with_references(references_of(request, request.subjects))


@contextmanager
def prepared(plan: TrainerPlan) -> Iterator[tuple[Trainer, Callable[[], None]]]:
    """The trainer inside the loaded models, and a function that makes them trainable again after a preview.

    At the end, whatever it was, MODEL and CLIP are as they were.
    """
    request, memory = plan.request, memory_plan(plan)
    placement = Placement.STREAMED if memory is not None and memory.streams else Placement.RESIDENT
    unet, clip = placed(request.model, placement), request.clip
    if plan.learns_text:
        clip = static_clip(clip)
    encoder = ComfyTextEncoder(clip, with_gradients=request.is_text_trained,
                               cache=(runs_root(), plan.hashes.text_encoder))
    with watched("the photos and texts were encoded"):
        data, held_out = encoded_data(plan), held_out_data(plan)
        if not request.is_text_trained:
            # Now, while the text encoder may still push the network out of memory.
            encoder.encode([*data.prompts(), *(held_out.prompts() if held_out else ())])
    patchers = [unet, clip.patcher] if plan.learns_text else [unet]
    with ExitStack() as stack:
        with watched("the model was loaded", memory):
            prepare = stack.enter_context(trainable(*patchers, memory=memory.beside if memory else plan.memory,
                                                    placement=placement))
            stack.enter_context(casting_layers(unet.model, always=request.config.options.trains_full_weights))
            if plan.learns_text:
                stack.enter_context(out_of_place_layers(clip.cond_stage_model))
                if request.config.options.gradient_checkpointing != "off":
                    stack.enter_context(recomputed_layers(clip.cond_stage_model))
            trainer = stack.enter_context(Trainer(
                denoiser=ComfyDenoiser(unet, request.config.resolution), text_encoder=encoder, data=data,
                config=request.config, held_out=held_out, starts=request.starts,
                image_text=image_text_in(request, clip), free_bytes=free_memory(unet), memory_plan=memory))
        yield trainer, prepare
