"""Class images by ComfyUI's own samplers; each has its own noise, so the batch size matters to the last bits alone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.sample
import comfy.samplers
import folder_paths
import torch
from torch import Generator, Tensor

from ....core.data.examples import generator_for
from ....core.store.class_images import ClassImages, PriorCache, PriorRecipe, class_images, count_to_sample
from ..model.hashes import model_hash
from ..model.option_hash import option_hash
from ..progress import Progress
from .sampling import conditioning

FOLDER = Path("personalize") / ".class_images"
"""Inside ComfyUI's output folder, beside the runs, whose names never start with a dot."""
ALONE = ("dpm_adaptive", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
"""Samplers (and their variants) that tie a batch's images together: by one error norm, or one noise tree."""


def samples_alone(sampler: str) -> bool:
    """Whether this sampler's images depend on their neighbours unless they are sampled one at a time."""
    return sampler.startswith(ALONE)


def model_digest(model: Any) -> str:
    """Digest of everything in a MODEL that its pictures depend on."""
    return f"{model_hash(model)}-{option_hash(model)}"


def text_encoder_digest(clip: Any) -> str:
    """Digest of everything in a CLIP that its encodings depend on."""
    return f"{model_hash(clip.patcher)}-{clip.layer_idx}-{sorted(clip.tokenizer_options.items())}"


def make_class_images(
    model: Any, clip: Any, recipe: PriorRecipe, class_noun: str, count: int, batch: int
) -> tuple[ClassImages, int]:
    """The pool, from disk where it is there, in tensors that autograd may use; and how many were sampled."""
    cache = PriorCache(Path(folder_paths.get_output_directory()) / FOLDER)
    recipe = replace(recipe, batch=None if samples_alone(recipe.sampler) else min(batch, count))
    sampler = ClassImageSampler(model, clip, recipe, count_to_sample(cache, recipe, count))
    pool = class_images(cache, recipe, class_noun=class_noun, count=count, sample=sampler)
    with torch.inference_mode(False):
        return replace(pool, latents=pool.latents.clone()), sampler.done


class ClassImageSampler:
    """Samples images by index for `core.prior_cache.class_images`.

    Args:
        total: how many images are still to come, for the progress bar.
    """

    def __init__(self, model: Any, clip: Any, recipe: PriorRecipe, total: int):
        self.model, self.clip, self.recipe = model, clip, recipe
        self.progress = Progress(total * recipe.steps)
        self.done = 0

    @cached_property
    def conditionings(self) -> list[Any]:
        """The prompt's and the empty one; encoded only once images are missing."""
        return [conditioning(self.clip, text) for text in (self.recipe.prompt, "")]

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """Latents (len(indices), C, h, w) as a LATENT holds them."""
        recipe, generators = (
            self.recipe,
            [generator_for(self.recipe.seed, "class image", index) for index in indices],
        )
        latent = comfy.sample.fix_empty_latent_channels(
            self.model,
            torch.zeros(len(indices), 4, recipe.size // 8, recipe.size // 8),
            downscale_ratio_spacial=8,
        )
        schedule = comfy.samplers.KSampler(
            self.model,
            recipe.steps,
            self.model.load_device,
            recipe.sampler,
            recipe.scheduler,
            model_options=self.model.model_options,
        )
        samples = comfy.sample.sample_custom(
            self.model,
            row_noise(latent, generators),
            recipe.cfg,
            row_sampler(recipe.sampler, generators),
            schedule.sigmas,
            *self.conditionings,
            latent,
            disable_pbar=True,
            callback=lambda step, *_: self._report(step, len(indices)),
            seed=generators[0].initial_seed(),
        )
        self.done += len(indices)
        return (samples[:, :, 0] if samples.ndim == 5 else samples).float()  # of films: a picture is one frame

    def _report(self, step: int, rows: int) -> None:
        steps = min(step + 1, self.recipe.steps)
        self.progress.show(self.done * self.recipe.steps + steps * rows)


def row_noise(like: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Unit noise of the shape of `like`, each row from its own generator."""
    rows = [torch.randn(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(rows)


def row_sampler(name: str, generators: Sequence[Generator]) -> comfy.samplers.KSAMPLER:
    """ComfyUI's sampler of that name, whose fresh noise comes row by row from the generators."""
    sampler = comfy.samplers.sampler_object(name)
    if "noise_sampler" not in inspect.signature(sampler.sampler_function).parameters or samples_alone(name):
        return sampler
    # A noise sampler is not told the latents' shape: it is remembered from the start.
    original = sampler.sampler_function

    def with_row_noise(model: Any, x: Tensor, sigmas: Tensor, **settings: Any) -> Tensor:
        def noise_sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
            return row_noise(x, generators).to(x)

        return original(model, x, sigmas, **settings, noise_sampler=noise_sampler)

    return comfy.samplers.KSAMPLER(with_row_noise, dict(sampler.extra_options), dict(sampler.inpaint_options))


def decode(vae: Any, latents: Tensor, batch: int) -> Tensor:
    """Pictures (n, H, W, 3), `batch` at a time."""
    if getattr(vae, "latent_dim", 2) == 3:
        latents = latents[:, :, None]
    pictures = [vae.decode(rows) for rows in latents.split(batch)]
    return torch.cat([picture.reshape(-1, *picture.shape[-3:]) for picture in pictures])
