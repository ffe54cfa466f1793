"""One training run on loaded ComfyUI models: where it is kept, how it is driven, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import folder_paths
import torch
from torch import Tensor

from ...core.data import TrainingData
from ...core.runs import Run, SavedState, open_run
from ...core.trainable import Artifacts
from ...core.trainer import Trainer
from ...core.validation import History
from .hashes import model_hash, vae_hash
from .images import encode_views, make_examples
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
from .sockets import Personalization
from .text import ComfyTextEncoder, out_of_place_layers
from .training_checks import check
from .training_key import key_of
from .training_loop import Keeper, Loop
from .training_request import Request, training_data
from .training_words import image_text_in, load_words, prepared_words, preview_of, with_words
from .what_trains import full_weights_memory

AnyRequest = TypeVar("AnyRequest", bound=Request)
Preparation = Callable[[AnyRequest], AbstractContextManager[tuple[Trainer, Callable[[], None]]]]
"""Loads the models of a request; gives the trainer in them, and a function that makes them trainable again."""


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
    pictures: list[Tensor] = []
    result = train_or_load(request, prepared, pictures)
    if request.preview is not None:
        model, clip = patched(request.model, request.clip, result.lora)
        settings = preview_of(request.preview, result.token_vectors)
        pictures.append(sample_preview(model, with_words(clip, result.token_vectors), request.vae, settings,
                                       request.config.resolution))
    return result, torch.cat(pictures) if pictures else draw_losses(result.losses, result.validation)


def train_or_load(request: AnyRequest, prepare: Preparation[AnyRequest], pictures: list[Tensor]) -> Personalization:
    """The run's result: loaded, or trained by what `prepare` gives; `pictures` takes the previews on the way."""
    run = open_run(runs_root(), request.run_name, key_of(request))
    return _load(request, run) or _train(request, run, prepare, pictures)


def _load(request: Request, run: Run) -> Personalization | None:
    """The result at exactly the asked step (or at the best one before it), where an earlier run kept it."""
    saved = run.load_state()
    if saved is None:
        return None
    history = _history(request, saved)
    end = history.end(request.config.steps) if history else request.config.steps
    best = history.best_step(end) if history else None
    found = run.load_adapter(best or end)
    if found is None or saved.step < end or load_words(run, found[1]) is None:
        return None
    lora, metadata = found
    what = f"loaded {end} steps, nothing to train" + _said_of(history, best, end)
    return _result(run, lora, metadata, saved.metadata["losses"][:end], what, history)


def _history(request: Request, saved: SavedState | None) -> History | None:
    """The judgements of the run so far, where it is judged."""
    config = request.config.validation
    return None if config is None else History(config, saved.metadata.get("figures", ()) if saved else ())


def _said_of(history: History | None, best: int | None, end: int) -> str:
    """What the judgements say, for the report."""
    if history is None or best is None:
        return ""
    name = history.config.best_by
    figure = next(entry[name] for entry in history.figures if entry["step"] == best)
    return f"; the best of {len(history.figures)} checkpoints is step {best} of {end} ({name} {figure:.4g})"


def _result(run: Run, lora: dict[str, Tensor], metadata: dict[str, Any], losses: list[float], what: str,
            history: History | None) -> Personalization:
    path = run.adapter_path(metadata["steps"])
    report = "\n".join([f"run {run.name}: {what}", f"seen: {metadata['exposure']}", f"adapter file: {path}"])
    words = load_words(run, metadata) or Artifacts()
    return Personalization(lora=lora, metadata=metadata, file=path, losses=losses, report=report,
                           token_vectors=words.token_vectors, contexts=words.contexts,
                           validation=history.losses() if history else {})


def _train(request: AnyRequest, run: Run, prepare_models: Preparation[AnyRequest],
           pictures: list[Tensor]) -> Personalization:
    """Train from the newest usable state to the asked step."""
    saved = run.load_state()
    usable = saved if saved is not None and saved.step <= request.config.steps else None
    first = usable.step if usable else 0
    progress, history = Progress(request.config.steps), _history(request, usable)
    with progress.heartbeat(), prepare_models(request) as (trainer, prepare):
        if usable is not None:
            trainer.load_state(usable.tensors, usable.metadata)
        keeper = Keeper(request, run, trainer, history, newest=saved.step if saved else 0)
        Loop(request, trainer, keeper, progress, prepare, pictures).run()
        lora, metadata = keeper.keep_result()
        losses, last = list(trainer.losses), trainer.step
    best = history.best_step(last) if history else None
    if best is not None and best != last:
        lora, metadata = run.load_adapter(best) or (lora, metadata)
    what = f"trained {last - first} steps" + (f", resumed from step {first}" if first else "")
    return _result(run, lora, metadata, losses, what + _said_of(history, best, last), history)


def held_out_data(request: Request) -> TrainingData | None:
    """The photos that are judged and never trained on."""
    if request.validation is None or not request.validation.held_out:
        return None
    size = request.config.resolution
    latents = encode_views(request.vae, request.validation.held_out, size, runs_root(), vae_hash(request.vae))
    return TrainingData(examples=make_examples(request.model, request.validation.held_out, latents, size))


@contextmanager
def prepared(request: Request) -> Iterator[tuple[Trainer, Callable[[], None]]]:
    """The trainer inside the loaded models, and a function that makes them trainable again after a preview.

    At the end, whatever it was, MODEL and CLIP are as they were.
    """
    size = request.config.resolution
    unet, clip = static_patcher(request.model), request.clip
    latents = encode_views(request.vae, request.subjects, size, runs_root(), vae_hash(request.vae))
    data = training_data(request, latents)
    learns_text = request.is_text_trained or bool(prepared_words(request, data))
    if learns_text:
        clip = static_clip(clip)
    text_cache = (runs_root(), model_hash(request.clip.patcher))
    encoder = ComfyTextEncoder(clip, with_gradients=request.is_text_trained, cache=text_cache)
    held_out = held_out_data(request)
    patchers = [unet, clip.patcher] if learns_text else [unet]
    if not request.is_text_trained:
        # Now, while the text encoder may still push the network out of memory.
        encoder.encode([*data.prompts(), *(held_out.prompts() if held_out else ())])
    memory = training_memory(request.model, request.rows, size, latents[0][0].shape[0]) + full_weights_memory(request)
    with ExitStack() as stack:
        prepare = stack.enter_context(trainable(*patchers, memory=memory))
        stack.enter_context(casting_layers(unet.model, always=request.config.options.trains_full_weights))
        if learns_text:
            stack.enter_context(out_of_place_layers(clip.cond_stage_model))
        trainer = Trainer(denoiser=ComfyDenoiser(unet, size), text_encoder=encoder, data=data, config=request.config,
                          held_out=held_out, starts=request.starts, image_text=image_text_in(request, clip),
                          free_bytes=free_memory(unet))
        yield stack.enter_context(trainer), prepare
