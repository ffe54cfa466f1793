"""The noise of samplers that draw at every step, row by row: switching DCI on leaves the concept branch's noise alone.

Such a sampler would draw one tensor for all 2 B latents, in which the first B rows differ from what it draws for B.
Here it is given a noise sampler of ComfyUI's own kind for each branch.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from comfy.k_diffusion import sampling as k_diffusion
from comfy.samplers import KSAMPLER
from torch import Tensor

from ....core.dci.config import DCIConfig

NoiseSampler = Callable[[Any, Any], Tensor]
"""Standard normal noise for the step from one noise level to the next."""

BROWNIAN = frozenset(f"sample_{name}{device}" for name in ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun",
                                                           "dpmpp_3m_sde") for device in ("", "_gpu"))
"""Samplers whose noise comes from a Brownian tree over noise levels; the others' comes from one generator."""


def with_branch_noise(sampler: Any, concept: Tensor, sigmas: Tensor, seed: int | None, config: DCIConfig) -> Any:
    """A copy of the sampler that draws for the concept rows what it draws for them alone.

    That is noise for its steps, and (ddim) for what an inpainting mask keeps. The sampler itself where there is nothing
    to do: it draws no noise of its own, brings its own noise sampler, is not ComfyUI's, or has no seed. `dpm_adaptive`
    draws none, but all rows share its error norm, so its steps still change.

    Args:
        sampler: as the guider got it.
        concept: the concept rows, on the device where they are sampled.
        sigmas: the run's noise levels.
        seed: the run's seed.
        config: whether to, and whether the auxiliary rows get the same noise.
    """
    function = getattr(sampler, "sampler_function", None)
    if not (config.seed_exact and seed is not None and inspect.isfunction(function) and isinstance(sampler, KSAMPLER)):
        return sampler
    if sampler.inpaint_options.get("random", False):
        return _with_mask_noise(sampler, concept, seed, config)
    draws = "noise_sampler" in inspect.signature(function).parameters and function.__module__ == k_diffusion.__name__
    if not draws or sampler.extra_options.get("noise_sampler") is not None:
        return sampler
    own = _noise_sampler(function.__name__, concept, sigmas, seed)
    other = _noise_sampler(function.__name__, concept, sigmas, auxiliary_seed(seed))
    changed = copy.copy(sampler)
    changed.extra_options = {**sampler.extra_options, "noise_sampler": _both(own, other, config)}
    return changed


def _with_mask_noise(sampler: KSAMPLER, concept: Tensor, seed: int, config: DCIConfig) -> KSAMPLER:
    """A copy of the sampler that noises what a mask keeps, in the concept rows, as it does for them alone."""
    own, other = (torch.randn(concept.shape, generator=torch.Generator().manual_seed(number + 1)).to(concept)
                  for number in (seed, auxiliary_seed(seed)))  # + 1 as ComfyUI does
    noise = torch.cat([own, own if config.auxiliary_noise == "shared" else other])
    function = sampler.sampler_function

    @functools.wraps(function)
    def sample(model: Any, *arguments: Any, **settings: Any) -> Tensor:
        model.noise = noise
        return function(model, *arguments, **settings)

    changed = copy.copy(sampler)
    changed.sampler_function = sample
    return changed


def _both(own: NoiseSampler, other: NoiseSampler, config: DCIConfig) -> NoiseSampler:
    def noise(sigma: Any, sigma_next: Any) -> Tensor:
        concept = own(sigma, sigma_next)
        auxiliary = concept if config.auxiliary_noise == "shared" else other(sigma, sigma_next)
        return torch.cat([concept, auxiliary])

    return noise


def _noise_sampler(name: str, rows: Tensor, sigmas: Tensor, seed: int) -> NoiseSampler:
    """What ComfyUI's sampler of this name makes for these rows."""
    if name not in BROWNIAN:
        return k_diffusion.default_noise_sampler(rows, seed=seed)
    levels = sigmas.to(rows.device)
    return k_diffusion.BrownianTreeNoiseSampler(rows, levels[levels > 0].min(), levels.max(), seed=seed,
                                                cpu=not name.endswith("_gpu"))


def auxiliary_seed(seed: int) -> int:
    """A seed of the auxiliary rows' own, 0 to 2^63 - 1."""
    digest = hashlib.blake2b(seed.to_bytes(16, "little", signed=True), digest_size=8, person=b"dci step noise")
    return int.from_bytes(digest.digest(), "little") >> 1
