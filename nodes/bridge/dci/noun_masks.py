"""Masks of what a noun names in photos, from the loaded MODEL's own attention to the noun's tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn import functional

from ....core.data.examples import generator_for
from ....core.dci.config import DCIConfig
from ....core.dci.noun_attention import NounAttention, attention_to, cut
from ....core.dci.subjects import DCISubject, SubjectPrompt
from ....core.errors import InputError, require
from ..model.latent_shapes import pixels_per_latent, size_step
from ..model.recipes import recipe_of
from .branch_mixing import BranchMixing, MixingSites, Pairs
from .dual_prompt import CONDITIONING_KEY, encode_dual_prompt, read_tokens
from .mixing_sites import mixing_sites

KEY = "personalize_noun_masks"
LEVELS = (0.7, 0.9)
"""Fractions of the noise schedule at which a photo is looked at: at more noise the network tells where such a thing
usually stands, and not where it is (benchmarks/results/dci_mask_iou.md)."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How photos are looked at.

    Attributes:
        noun: what is to be masked.
        prompt: holds the noun.
        resolution: side of a square of as many pixels as each photo is shown at.
        threshold: of the stretched attention; 0: Otsu's.
        seed: of the noise.
    """

    noun: str
    prompt: str
    resolution: int
    threshold: float = 0.0
    seed: int = 0


def noun_masks(model: Any, clip: Any, vae: Any, photos: Sequence[Tensor], look: Look) -> list[Tensor]:
    """A mask (1, H, W) of 0 and 1 for every photo (1, H, W, 3).

    Raises:
        InputError: where the network's attention cannot be read, or the noun is not in the prompt.
    """
    sites = _sites(model)
    prompt = SubjectPrompt(prompt=look.prompt, subjects=(DCISubject(
        identifier=look.noun, class_noun="", auxiliary_noun="object" if look.noun == "thing" else "thing"),))
    positive = encode_dual_prompt(clip, prompt)
    encoded = [_latents(model, vae, photo, look) for photo in photos]  # all first: VAE and network change places once
    looks = (_look_at(model, sites, positive, latents, look, number) for number, latents in enumerate(encoded))
    return [cut(seen.heat(*photo.shape[1:3]), look.threshold)[None] for seen, photo in zip(looks, photos, strict=True)]


def check_words(noun: str, template: str) -> None:
    """Raise `InputError` for an empty noun, or a template without a place for it."""
    require(bool(noun.strip()), "class_noun", "an empty text", "what is to be masked", "Write for example dog.")
    require("{noun}" in template, "template", repr(template), "a text with {noun}", "Write 'a {noun}'.")


def resolution_of(model: Any, given: int) -> int:
    """The side of a square of as many pixels as photos are shown at: what was given, or at 0 the recipe's."""
    return given or recipe_of(model).resolution


def _sites(model: Any) -> MixingSites:
    try:
        return mixing_sites(model)
    except InputError as refusal:
        raise InputError(refusal.name, refusal.got, refusal.expected,
                         "Paint the masks, or make them with another node.") from None


def _latents(model: Any, vae: Any, photo: Tensor, look: Look) -> Tensor:
    """A photo (1, H, W, 3) as the VAE gives it, at the size at which it is looked at."""
    size = working_size(photo.shape[1], photo.shape[2], look.resolution, size_step(model, pixels_per_latent(model)))
    shown = functional.interpolate(photo[..., :3].movedim(-1, 1).float(), size=size, mode="bicubic", antialias=True)
    latents: Tensor = vae.encode(shown.clamp(0, 1).movedim(1, -1))
    return latents


def _look_at(model: Any, sites: MixingSites, positive: list[Any], latents: Tensor, look: Look,
          number: int) -> NounAttention:
    """The attention to the noun in one photo's latents."""
    seen = NounAttention(*latents.shape[-2:])
    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, _Watch(sites, seen))
    schedule = model.get_model_object("model_sampling")
    sigmas = torch.tensor([float(schedule.percent_to_sigma(level)) for level in LEVELS])
    noise = torch.randn(latents.shape, generator=generator_for(look.seed, "noun mask", number))
    comfy.sample.sample_custom(watched, noise, 1.0, _Glances(schedule), sigmas, positive, positive, latents,
                               disable_pbar=True, seed=look.seed)
    return seen


def working_size(height: int, width: int, resolution: int, step: int) -> tuple[int, int]:
    """Height and width of about resolution^2 pixels in a photo's shape, multiples of `step`."""
    scale = resolution / math.sqrt(height * width)
    return max(step, round(height * scale / step) * step), max(step, round(width * scale / step) * step)


class _Glances(comfy.samplers.Sampler):
    """Not a sampler: shows the network the latents, noised to every sigma."""

    def __init__(self, schedule: Any):
        self.schedule = schedule

    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
               latent_image: Tensor | None = None, denoise_mask: Tensor | None = None,
               disable_pbar: bool = False) -> Tensor:
        """The latents as they came."""
        assert latent_image is not None
        for sigma in sigmas:
            noisy = self.schedule.noise_scaling(sigma, noise.clone(), latent_image, False)
            model_wrap(noisy, sigma.expand(len(noisy)), **extra_args)
        return latent_image


@dataclass(frozen=True)
class _Watch:
    """The CALC_COND_BATCH wrapper of a watched MODEL."""

    sites: MixingSites
    seen: NounAttention

    def __call__(self, executor: Any, model: Any, conds: list[Any], latents: Tensor, sigma: Tensor,
                 options: dict[str, Any]) -> Any:
        pairs: Any = {(index, entry["uuid"]): read_tokens(entry[CONDITIONING_KEY].concept, entry)
                      for index, entries in enumerate(conds) for entry in entries or ()}
        run = _Watched(rows=len(latents), sigma=float(sigma.max()), omega=0.0, layers=self.sites.names,
                       config=DCIConfig(), seen=self.seen)
        return executor(model, conds, latents, sigma, self.sites.install(options, run, pairs))


@dataclass(frozen=True)
class _Watched(BranchMixing):
    """What the layers are given in DCI's place: it changes nothing, and notes where the image reads the noun."""

    seen: NounAttention | None = None

    def spans(self, options: Mapping[str, Any], pairs: Pairs) -> Iterator[tuple[slice, Any]]:
        """The rows of every entry in a call."""
        for number, entry in enumerate(zip(options["cond_or_uncond"], options["uuids"], strict=True)):
            yield slice(self.rows * number, self.rows * (number + 1)), pairs[entry]

    def mix(self, layer: str, outputs: Tensor, query: Tensor, key: Tensor, prompt: Any,
            bias: Tensor | None = None) -> Tensor:
        """The outputs as they are."""
        assert self.seen is not None
        self.seen.record(layer, attention_to(query, key, prompt, bias)[0])
        return outputs
