"""One training run on loaded ComfyUI models: where it is kept, how it is driven, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ....core.data.examples import TrainingData
from ....core.errors import InputError
from ....core.store.metadata import NewerVersion
from ....core.store.runs import Run, SavedState, only_here, open_run
from ....core.training.divergence import divergence, explosion
from ....core.training.trainer import Trainer
from ....core.training.validation import History
from ..model.denoiser import ComfyDenoiser
from ..model.gradients import casting_layers, free_memory, static_clip, static_patcher, trainable, training_memory
from ..model.hashes import model_hash, vae_hash
from ..output import runs_root
from ..photos.latents import encode_views, make_examples
from ..progress import Progress, draw_losses
from ..sampling.sampling import patched, sample_preview
from ..sockets import Personalization
from ..text.encoder import ComfyTextEncoder, out_of_place_layers
from .checks import check
from .key import key_of
from .loop import Keeper, Loop, Result
from .request import Request, training_data
from .what_trains import full_weights_memory
from .words import image_text_in, load_words, prepared_words, preview_of, with_words

AnyRequest = TypeVar("AnyRequest", bound=Request)
Preparation = Callable[[AnyRequest], AbstractContextManager[tuple[Trainer, Callable[[], None]]]]
"""Loads the models of a request; gives the trainer in them, and a function that makes them trainable again."""


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
    """The run's result: loaded, or trained by what `prepare` gives; `pictures` takes the previews on the way.

    Raises:
        InputError: another process trains this run, or its state is damaged and steps beyond its results are asked.
    """
    root, key = runs_root(), key_of(request)
    with only_here(root, request.run_name, key):
        run = open_run(root, request.run_name, key)
        saved, damage = _saved_state(run)
        return _load(request, run, saved, damage) or _train(request, run, saved, damage, prepare, pictures)


def _saved_state(run: Run) -> tuple[SavedState | None, InputError | None]:
    """The run's state, or what is wrong with it."""
    try:
        return run.load_state(), None
    except NewerVersion:
        raise
    except InputError as damage:
        return None, damage


def _load(request: Request, run: Run, saved: SavedState | None, damage: InputError | None) -> Personalization | None:
    """The result at exactly the asked step (or at the best one before it), where an earlier run kept it."""
    history, steps = _history(request, saved), request.config.steps
    end = history.end(steps) if history else steps
    best = history.best_step(end) if history else None
    result = _kept_result(run, best or end)
    if result is None:
        return None
    done = saved.step if saved else 0
    losses = saved.metadata["losses"][:end] if saved else []
    what = f"loaded {end} steps, nothing to train" + _said_of(history, best, end)
    if done >= end:
        return _result(run, result, losses, what, history, _divergence(request, saved, losses))
    is_ahead = damage is not None or end - done > request.config.options.save_every
    if history is not None or not is_ahead:
        return None  # a stop between two files of one save; or the best step is not known
    reason = str(damage) if damage else "the training state could not be saved with it"
    warning = f"losses are known for {done} of {end} steps, and more steps start again from there: {reason}"
    return _result(run, result, losses, what, history, [warning])


def _divergence(request: Request, saved: SavedState | None, losses: Sequence[float]) -> list[str]:
    """What is known of the learning of a run that is loaded; nothing where an earlier version trained it."""
    values, rate = saved.metadata if saved else {}, request.config.learning_rate
    told = [divergence(losses, values["loss_of_zeros"], rate) if "loss_of_zeros" in values else None,
            explosion(values.get("relative_change", 0.0), rate)]
    return [text for text in told if text]


def _kept_result(run: Run, step: int) -> Result | None:
    """The result of a step, where the run store has it whole."""
    found = run.load_adapter(step)
    words = None if found is None else load_words(run, found[1])
    if found is None or words is None:
        return None
    return Result(step=step, learned=replace(words, adapter=found[0]), metadata=found[1])


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


def _result(run: Run, result: Result, losses: list[float], what: str, history: History | None,
            warnings: Iterable[str] = ()) -> Personalization:
    path = run.adapter_path(result.step)
    report = "\n".join([f"run {run.name}: {what}", f"seen: {result.metadata['exposure']}", f"adapter file: {path}",
                        *(f"Warning: {warning}" for warning in warnings)])
    learned = result.learned
    return Personalization(lora=learned.adapter, metadata=result.metadata, file=path, losses=losses, report=report,
                           token_vectors=learned.token_vectors, contexts=learned.contexts,
                           validation=history.losses() if history else {})


def _train(request: AnyRequest, run: Run, saved: SavedState | None, damage: InputError | None,
           prepare_models: Preparation[AnyRequest], pictures: list[Tensor]) -> Personalization:
    """Train from the newest usable state to the asked step."""
    if damage is not None and run.results():
        raise InputError(damage.name, damage.got, f"{damage.expected}, or one of its results: "
                         f"steps {', '.join(map(str, run.results()))}", damage.fix) from damage
    usable = saved if saved is not None and saved.step <= request.config.steps else None
    first = usable.step if usable else 0
    progress, history = Progress(request.config.steps), _history(request, usable)
    with progress.heartbeat(), prepare_models(request) as (trainer, prepare):
        if usable is not None:
            _restore(trainer, run, usable)
        keeper = Keeper(request, run, trainer, history, newest=saved.step if saved else 0)
        loop = Loop(request, trainer, keeper, progress, prepare, pictures)
        loop.run()
        result = keeper.keep_result()
        losses, last = list(trainer.losses), trainer.step
    best = history.best_step(last) if history else None
    if best is not None and best != last:
        result = keeper.best or _kept_result(keeper.run, best) or result
    what = f"trained {last - first} steps" + (f", resumed from step {first}" if first else "")
    warnings = [*keeper.failures.values(), *(told for told in (loop.divergence, loop.explosion) if told)]
    return _result(keeper.run, result, losses, what + _said_of(history, best, last), history, warnings)


def _restore(trainer: Trainer, run: Run, saved: SavedState) -> None:
    """Go on from a state.

    Raises:
        InputError: the state does not fit the run; names the file.
    """
    try:
        trainer.load_state(saved.tensors, saved.metadata)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as reason:
        raise InputError("file", f"{run.state_path}: a damaged state ({reason})", f"the state of the run {run.name}",
                         f"Remove that file to train this run again from the start: {run.state_path}") from reason


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
