"""One training run on loaded ComfyUI models: where it is kept, how it is driven, and how it is undone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from torch import Tensor

from ...core.errors import TrainingDiverged
from ...core.runs import Run, open_run
from ...core.trainer import Trainer
from .hashes import model_hash, vae_hash
from .images import encode_photos
from .model import (
    ComfyDenoiser,
    casting_layers,
    free_memory,
    static_clip,
    static_patcher,
    trainable,
    training_memory,
)
from .progress import Progress, draw_losses
from .sampling import patched, sample_preview
from .sockets import Personalization, PreviewSettings
from .text import ComfyTextEncoder, out_of_place_layers
from .training_request import Request, check, training_data

UNTIL_CANCELLED = (TrainingDiverged, comfy.model_management.InterruptProcessingException)
"""Ends of a run that are no defect: what keeping it has to say then counts more."""


def runs_root() -> Path:
    """Where all runs are kept: `personalize` in ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory()) / "personalize"


def personalize(request: Request) -> tuple[Personalization, Tensor]:
    """Train, resume or load the run that the request describes: the result, and pictures (N, H, W, 3).

    Raises:
        InputError: for input that cannot be used; nothing was loaded.
        StorageError: for a full disk; the last good state is kept.
        TrainingDiverged: for NaN; the last good state is kept.
    """
    check(request)
    run = open_run(runs_root(), request.run_name, request.key)
    result = _load(request, run)
    pictures: list[Tensor] = []
    if result is None:
        result = _train(request, run, pictures)
    if request.preview is not None:
        models = patched(request.model, request.clip, result.lora)
        pictures.append(sample_preview(*models, request.vae, request.preview, request.config.resolution))
    return result, torch.cat(pictures) if pictures else draw_losses(result.losses)


def _load(request: Request, run: Run) -> Personalization | None:
    """The result at exactly the asked step, where an earlier run kept it."""
    steps, saved, found = request.config.steps, run.load_state(), run.load_adapter(request.config.steps)
    if found is None or saved is None or saved.step < steps:
        return None
    lora, metadata = found
    return _result(run, lora, metadata, saved.metadata["losses"][:steps], f"loaded {steps} steps, nothing to train")


def _result(
    run: Run, lora: dict[str, Tensor], metadata: dict[str, Any], losses: list[float], what: str
) -> Personalization:
    path = run.adapter_path(metadata["steps"])
    report = "\n".join([f"run {run.name}: {what}", f"seen: {metadata['exposure']}", f"adapter file: {path}"])
    return Personalization(lora=lora, metadata=metadata, file=path, losses=losses, report=report)


def _train(request: Request, run: Run, pictures: list[Tensor]) -> Personalization:
    """Train from the newest usable state to the asked step."""
    saved = run.load_state()
    usable = saved if saved is not None and saved.step <= request.config.steps else None
    first = usable.step if usable else 0
    progress = Progress(request.config.steps)
    with progress.heartbeat(), prepared(request) as (trainer, prepare):
        if usable is not None:
            trainer.load_state(usable.tensors, usable.metadata)
        keeper = Keeper(request, run, trainer, newest=saved.step if saved else 0)
        _drive(request, trainer, keeper, progress, prepare, pictures)
        lora, metadata = keeper.keep_result()
        losses = list(trainer.losses)
    what = f"trained {request.config.steps - first} steps" + (f", resumed from step {first}" if first else "")
    return _result(run, lora, metadata, losses, what)


def _drive(request: Request, trainer: Trainer, keeper: Keeper, progress: Progress, prepare: Callable[[], None],
           pictures: list[Tensor]) -> None:
    """Run all steps, showing, previewing and saving on the way; keep everything, whatever ends it early."""
    save_every, preview = request.config.options.save_every, request.preview
    try:
        progress.show(trainer.step)
        for step in trainer.steps():
            is_last = step.step == request.config.steps
            picture = None
            if preview is not None and step.step % preview.every == 0 and not is_last:
                picture = _preview(request, preview, trainer, prepare)
                pictures.append(picture)
            progress.show(step.step, picture)
            if save_every and step.step % save_every == 0 and not is_last:
                keeper.keep_state()
    except UNTIL_CANCELLED:
        keeper.keep_what_was_learned()
        raise
    except Exception:  # out of memory in a preview, a sampler's own error
        try:
            keeper.keep_what_was_learned()
        except Exception:
            logging.exception("The steps since the last save could not be kept.")
        raise


def _preview(request: Request, settings: PreviewSettings, trainer: Trainer, prepare: Callable[[], None]) -> Tensor:
    """A picture with the weights so far. The adapters are out meanwhile, and the base weights come back bit by bit."""
    trainer.eject()
    try:
        models = patched(request.model, request.clip, trainer.export().adapter)
        return sample_preview(*models, request.vae, settings, request.config.resolution)
    finally:
        prepare()
        trainer.inject()


@dataclass
class Keeper:
    """Writes a run's state and results.

    Attributes:
        newest: step of the newest state on disk; an older one never replaces it.
    """

    request: Request
    run: Run
    trainer: Trainer
    newest: int

    def keep_state(self) -> None:
        if self.trainer.step > self.newest:
            self.run.save_state(self.trainer.step, *self.trainer.state())
            self.newest = self.trainer.step

    def keep_what_was_learned(self) -> None:
        """State and adapter file of a run that ends early, where weights and step count agree."""
        if self.trainer.step and not self.trainer.is_updating:
            self.keep_result()

    def keep_result(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State and adapter file of the current step; returns the file's content."""
        self.keep_state()
        lora = self.trainer.export().adapter
        metadata = self.request.metadata(self.trainer.step, str(self.trainer.exposure()))
        self.run.save_adapter(self.trainer.step, lora, metadata)
        return lora, metadata


@contextmanager
def prepared(request: Request) -> Iterator[tuple[Trainer, Callable[[], None]]]:
    """The trainer inside the loaded models, and a function that makes them trainable again after a preview.

    At the end, whatever it was, MODEL and CLIP are as they were.
    """
    size = request.config.resolution
    unet, clip = static_patcher(request.model), request.clip
    if request.is_text_trained:
        clip = static_clip(clip)
    text_cache = (runs_root(), model_hash(request.clip.patcher))
    encoder = ComfyTextEncoder(clip, with_gradients=request.is_text_trained, cache=text_cache)
    latents = encode_photos(request.vae, request.subjects, size, runs_root(), vae_hash(request.vae))
    data = training_data(request, latents)
    patchers = [unet, clip.patcher] if request.is_text_trained else [unet]
    if not request.is_text_trained:
        encoder.encode(data.prompts())  # now, while the text encoder may still push the network out of memory
    memory = training_memory(request.model, request.rows, size, latents.shape[1])
    with ExitStack() as stack:
        prepare = stack.enter_context(trainable(*patchers, memory=memory))
        stack.enter_context(casting_layers(unet.model))
        if request.is_text_trained:
            stack.enter_context(out_of_place_layers(clip.cond_stage_model))
        trainer = Trainer(denoiser=ComfyDenoiser(unet, size), text_encoder=encoder, data=data, config=request.config,
                          free_bytes=free_memory(unet))
        yield stack.enter_context(trainer), prepare
