"""One training run on loaded ComfyUI models: what it is made from, where it is kept, how it is driven and undone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from torch import Tensor

from ...core.adapter import find_targets
from ...core.config import TrainingConfig
from ...core.data import Example, TrainingData
from ...core.errors import TrainingDiverged, require
from ...core.runs import Run, check_run_name, open_run, run_key
from ...core.subject import Subject
from ...core.trainer import Trainer
from .hashes import model_hash, tensor_digest, vae_hash
from .images import data_hash, encode_photos, make_examples
from .model import (
    ComfyDenoiser,
    check_model,
    free_memory,
    is_quantised,
    schedule_of,
    static_clip,
    static_patcher,
    trainable,
    training_memory,
)
from .progress import Progress, draw_losses
from .sampling import patched, sample_preview
from .sockets import ObjectiveChain, Personalization, PreviewSettings
from .text import ComfyTextEncoder, check_trainable, out_of_place_layers

READERS = ("ComfyUI: LoraLoader and LoadPersonalization; diffusers: load_lora_weights; "
           "kohya's sd-scripts and programs that read its LoRA files")
UNTIL_CANCELLED = (TrainingDiverged, comfy.model_management.InterruptProcessingException)
"""Ends of a run at which weights and step count agree, so that all of it can be kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Everything that PersonalizeTrainer was given."""

    model: Any
    clip: Any
    vae: Any
    subjects: tuple[Subject, ...]
    chain: ObjectiveChain
    config: TrainingConfig
    run_name: str
    preview: PreviewSettings | None = None

    @cached_property
    def key(self) -> str:
        """The run's key: everything that changes the weights of a step, and nothing else."""
        return run_key({
            "version": 1,
            "config": self.config.key_fields(),
            "data": data_hash(self.subjects),
            "class_images": sorted(pool.key for pool in self.chain.class_images),
            "base_model": model_hash(self.model),
            "schedule": schedule_digest(self.model),
            "text_encoder": {"hash": model_hash(self.clip.patcher), "layer": self.clip.layer_idx},
            "vae": vae_hash(self.vae),
            "compute": {"device": self.model.load_device.type, "dtype": str(self.model.model.get_dtype_inference())},
        })

    @property
    def is_text_trained(self) -> bool:
        return self.config.options.text_encoder_rate > 0

    @property
    def rows(self) -> int:
        """Rows of the largest forward: the subject's, and as many for each objective that adds some."""
        return self.config.batch * (1 + len(self.config.objectives))

    def metadata(self, step: int, exposure: str) -> dict[str, Any]:
        """What the adapter file says about itself."""
        return {
            "version": 1,
            "identifiers": [subject.identifier for subject in self.subjects],
            "class_nouns": [subject.class_noun for subject in self.subjects],
            "captions": [subject.caption for subject in self.subjects],
            "base_model_hash": model_hash(self.model),
            "text_encoder_hash": model_hash(self.clip.patcher),
            "config": self.config.to_dict() | {"steps": step},
            "data_hash": data_hash(self.subjects),
            "steps": step,
            "exposure": exposure,
            "readers": READERS,
        }


def schedule_digest(model: Any) -> str:
    """Digest of the noise schedule, which other nodes may have changed without touching a weight."""
    schedule = schedule_of(model)
    digest = hashlib.blake2b(schedule.prediction.encode(), digest_size=20)
    for table in (schedule.alphas, schedule.sigmas, schedule.timesteps):
        digest.update(tensor_digest(table))
    return digest.hexdigest()


def runs_root() -> Path:
    """Where all runs are kept: `personalize` in ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory()) / "personalize"


def check(request: Request) -> None:
    """Raise `InputError` for everything that can be refused before a model is loaded or an image encoded."""
    check_run_name(request.run_name)
    require(request.clip is not None, "clip", "nothing", "the CLIP of the checkpoint",
            "This checkpoint has no text encoder; load one with CLIPLoader.")
    check_model(request.model)
    adapter = request.config.options.adapter
    find_targets(request.model.model.diffusion_model, adapter)
    if request.is_text_trained:
        check_trainable(request.clip)
        find_targets(request.clip.cond_stage_model, adapter)
    channels = request.model.get_model_object("latent_format").latent_channels
    require(request.vae.latent_channels == channels, "vae", f"a VAE of {request.vae.latent_channels} latent channels",
            f"the {channels} channels of this model", "Connect the VAE that belongs to the checkpoint.")
    side = request.config.resolution // _downscale(request.vae)
    probe = _training_data(request, torch.zeros(sum(len(subject.photos) for subject in request.subjects),
                                                channels, side, side))
    for objective in request.config.objectives:
        objective.check(probe)


def warnings_about_run(request: Request) -> list[str]:
    """What will probably disappoint, although it can be trained."""
    warnings = []
    identifiers = [subject.identifier for subject in request.subjects]
    if request.preview is not None and not any(name in request.preview.prompt for name in identifiers):
        warnings.append(f"the preview's prompt names no identifier ({', '.join(identifiers)}): it shows the class")
    if len(set(identifiers)) < len(identifiers):
        warnings.append("two subjects share an identifier: they will blend")
    if is_quantised(request.model):
        warnings.append("the model is stored in fp8, where a merged LoRA is rounded away in part: save the result and "
                        "load it with a bypass LoRA loader, or use an fp16 checkpoint")
    return warnings


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
    """Run all steps, showing, previewing and saving on the way; keep everything when cancelled or diverged."""
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
        if trainer.step:
            keeper.keep_result()
        raise


def _preview(request: Request, settings: PreviewSettings, trainer: Trainer, prepare: Callable[[], None]) -> Tensor:
    """A picture with the weights so far. The adapters are out meanwhile, and the base weights come back bit by bit."""
    trainer.eject()
    try:
        models = patched(request.model, request.clip, trainer.export())
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

    def keep_result(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State and adapter file of the current step; returns the file's content."""
        self.keep_state()
        lora = self.trainer.export()
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
    data = _training_data(request, latents)
    patchers = [unet, clip.patcher] if request.is_text_trained else [unet]
    if not request.is_text_trained:
        encoder.encode(data.prompts())  # now, while the text encoder may still push the network out of memory
    memory = training_memory(request.model, request.rows, size, latents.shape[1])
    with ExitStack() as stack:
        prepare = stack.enter_context(trainable(*patchers, memory=memory))
        if request.is_text_trained:
            stack.enter_context(out_of_place_layers(clip.cond_stage_model))
        trainer = Trainer(denoiser=ComfyDenoiser(unet, size), text_encoder=encoder, data=data, config=request.config,
                          free_bytes=free_memory(unet))
        yield stack.enter_context(trainer), prepare


def _training_data(request: Request, latents: Tensor) -> TrainingData:
    """Photos (raw VAE latents) and class images, all in the model's latent space."""
    dilation = max([getattr(objective, "dilation", 0) for objective in request.config.objectives], default=0)
    with torch.inference_mode(False), torch.no_grad():
        examples: tuple[Example, ...] = make_examples(request.model, request.subjects, latents.clone(),
                                                      request.config.resolution, dilation)
        pools = {pool.class_noun: request.model.model.process_latent_in(pool.latents.clone())
                 for pool in request.chain.class_images}
    prompts = {pool.class_noun: pool.prompt for pool in request.chain.class_images}
    return TrainingData(examples=examples, class_latents=pools, class_prompts=prompts)


def _downscale(vae: Any) -> int:
    return vae.downscale_ratio if isinstance(vae.downscale_ratio, int) else 8
