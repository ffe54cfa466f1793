"""DCI inside ComfyUI's sampling: the sampler carries 2 B latents, concept rows first, then auxiliary rows.

Everything is installed per sampling run by one OUTER_SAMPLE wrapper, so the order of nodes does not matter,
MODEL clones share no state, and what other nodes patched stays: `_Run.route` chooses which rows the network
sees at a noise level, and the model's `MixingSites` apply DBIM to the concept rows in its attention layers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ....core.dci.config import DCIConfig
from ....core.dci.latents import auxiliary_noise, share_noise_prediction
from ....core.dci.window import automatic_end
from ....core.errors import InputError
from .branch_guidance import guide_branches_apart
from .branch_mixing import BranchMixing, MaskRecorder, MixingSites, mixing_layers
from .branch_noise import with_branch_noise
from .branch_rows import BranchRows, with_branch_rows
from .dual_prompt import CONDITIONING_KEY, branch_entries, paired_entry
from .incompatible import check_model_options
from .mixing_sites import mixing_sites

logger = logging.getLogger(__name__)

WRAPPER_KEY = "personalize_dci"


def patch_dual_branch(model: Any, config: DCIConfig) -> Any:
    """A clone of the MODEL that samples with two branches wherever a conditioning carries a `DualPrompt`.

    Raises:
        InputError: for a MODEL without attention layers in which the branches can be mixed, or without any of the
            wanted scales.
    """
    sites = mixing_sites(model)
    mixing_layers(sites.names, config)
    return _with_sampling(model, DualBranchSampling(config, sites))


def dual_branch_of(model: Any) -> DualBranchSampling | None:
    """How a MODEL samples with two branches, or None where it does not."""
    found = model.get_wrappers(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY)
    return found[0] if found else None


def sites_of(patched: Any) -> MixingSites:
    """Where a MODEL that `patch_dual_branch` made mixes its branches."""
    found: DualBranchSampling = patched.get_wrappers(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY)[0]
    return found.sites


def record_masks(model: Any, recorder: MaskRecorder) -> Any:
    """A clone of a MODEL that `patch_dual_branch` made, whose masks the recorder sees while it samples.

    Raises:
        InputError: for a MODEL that does not sample with two branches.
    """
    sampling = dual_branch_of(model)
    if sampling is None:
        raise InputError("model", "a MODEL without DCI", "one that DCI Model or DCI Conditioning patched",
                         "Put this node behind the one that switches DCI on.")
    return _with_sampling(model, replace(sampling, recorder=recorder))


def _with_sampling(model: Any, sampling: DualBranchSampling) -> Any:
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, sampling)
    return patched


@dataclass(frozen=True)
class DualBranchSampling:
    """The OUTER_SAMPLE wrapper of a patched MODEL. It keeps no state between runs: clones share it."""

    config: DCIConfig
    sites: MixingSites
    recorder: MaskRecorder | None = None

    def __call__(self, executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor,
                 denoise_mask: Tensor | None = None, callback: Callable[..., Any] | None = None,
                 disable_pbar: bool = False, seed: int | None = None,
                 latent_shapes: list[Any] | None = None) -> Tensor:
        """One sampling run with 2 B rows, or the plain run where DCI has nothing to do."""
        guider = executor.class_obj
        schedule = guider.model_patcher.get_model_object("model_sampling")
        window = _window(schedule, self.config, latent_shapes[0] if latent_shapes else noise.shape)
        entries = _marked_entries(guider.conds)
        if not entries:
            logger.warning("This MODEL is patched for DCI, but its positive conditioning is not from DCI Encode or DCI "
                           "Conditioning: sampling without DCI.")
        if not entries or float(sigmas.max()) <= window[1]:
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed,
                            latent_shapes=latent_shapes)
        check_model_options(guider.model_options)
        rows = noise.shape[0]
        guide_branches_apart(guider, rows)
        guider.conds[WRAPPER_KEY] = [each for entry in entries for each in (entry.copy(), *branch_entries(entry))]
        run = _Run(self.config, self.sites, rows, window, float(schedule.sigma_min), self.recorder, guider)
        add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, WRAPPER_KEY, run.route, guider.model_options, True)
        own_noise = auxiliary_noise(noise, seed or 0, self.config.auxiliary_noise)
        concept = torch.empty_like(noise, device=guider.model_patcher.load_device, dtype=torch.float32)
        samples = executor(
            torch.cat([noise, own_noise]), torch.cat([latent_image] * 2),
            with_branch_noise(sampler, concept, sigmas, seed, self.config), sigmas,
            None if denoise_mask is None else torch.cat([denoise_mask] * 2),
            _concept_callback(callback, rows), disable_pbar, seed,
            latent_shapes=latent_shapes and [[2 * shape[0], *shape[1:]] for shape in latent_shapes],
        )
        return samples[:rows]


def _window(schedule: Any, config: DCIConfig, shape: Sequence[int]) -> tuple[float, float]:
    """The noise levels at which the window starts and ends for latents of a shape, (..., h, w)."""
    start = float(schedule.sigma_max)
    if config.window_sigma is not None:
        return start, config.window_sigma
    if config.window is None:
        return start, automatic_end(int(shape[-1]) * int(shape[-2]), schedule.percent_to_sigma, start)
    return start, float(schedule.percent_to_sigma(config.window))


@dataclass(frozen=True)
class _Run:
    """One sampling run of `rows` pictures, 2 x `rows` latents.

    Attributes:
        config: what the user chose.
        sites: where the branches mix.
        rows: B, pictures.
        window: the noise levels between which both branches run.
        least: the schedule's smallest noise level above zero, where a window that never ends is over.
        recorder: sees every mask, if there is one.
        guider: whose conditions hold, beside its own, each branch's entry of every pair, as ComfyUI prepared them.
        memory: what is found out once a run.
    """

    config: DCIConfig
    sites: MixingSites
    rows: int
    window: tuple[float, float]
    least: float
    recorder: MaskRecorder | None
    guider: Any
    memory: dict[Any, Any] = field(default_factory=dict)

    def route(self, executor: Any, model: Any, conds: list[Any], latents: Tensor, sigma: Tensor,
              options: dict[str, Any]) -> list[Tensor]:
        """Estimates D(z) of all 2 B rows for every list of conditions, from as few network rows as possible.

        After the window only concept rows are evaluated, and auxiliary rows stand still. Inside it, lists
        without a `DualPrompt` (the unconditional ones) are evaluated for concept rows only when guidance is
        shared: in the network call of the others where ComfyUI finds memory for it, but apart from them where a
        ControlNet, which runs before the rows are chosen, would compute auxiliary rows in vain.
        """
        concept, auxiliary = latents[: self.rows], latents[self.rows :]
        level = float(sigma.max())
        if level <= self.window[1]:
            estimates = executor(model, conds, concept, sigma[: self.rows], options)
            return [torch.cat([estimate, auxiliary]) for estimate in estimates]
        conds = [entries and [self._paired(entry) or entry for entry in entries] for entries in conds]
        both = {id(entry) for entry, _ in self._pairs.values()}
        pairs = {(index, entry["uuid"]): entry[CONDITIONING_KEY]
                 for index, entries in enumerate(conds) for entry in entries or () if id(entry) in both}
        mixing = with_branch_rows(self.sites.install(options, self._mixing(level), pairs),
                                  BranchRows(self.rows, pairs, self.config.shared_guidance), WRAPPER_KEY)
        paired = {index for index, _ in pairs}
        apart = {index for index, entries in enumerate(conds) if index not in paired and self.config.shared_guidance
                 and any(entry.get("control") is not None for entry in entries or ())}
        dual = executor(model, _without(conds, apart), latents, sigma, mixing)
        if apart:
            alone = executor(model, _without(conds, set(range(len(conds))) - apart), concept, sigma[: self.rows],
                             options)
            for index in apart:
                estimate = share_noise_prediction(alone[index], concept, auxiliary)
                dual[index] = torch.cat([alone[index], estimate])
        return dual

    def _mixing(self, level: float) -> BranchMixing:
        """What the layers of one network call need at a noise level."""
        start, end = self.window[0], max(self.window[1], self.least)
        return BranchMixing(rows=self.rows, sigma=level, omega=self.config.omega_at(level, start, end),
                            layers=mixing_layers(self.sites.names, self.config), config=self.config,
                            recorder=self.recorder, memory=self.memory)

    def _paired(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        """What both branches read in place of an entry: 2 B rows, concept rows first. None for an entry without a pair.

        ComfyUI copies markers into negatives of areas, which have a text of their own.
        """
        paired, plain = self._pairs.get(entry["uuid"], (None, None))
        context = entry["model_conds"].get("c_crossattn")
        is_own = plain is not None and context is not None and torch.equal(context.cond, plain)
        return paired if is_own else None

    @property
    def _pairs(self) -> dict[Any, tuple[dict[str, Any], Tensor]]:
        """For every pair, by uuid, its entry of both branches, and the context of its own as the network reads it.

        Rows of one entry never land in different network calls.
        """
        if WRAPPER_KEY not in self.memory:
            prepared = [entry for entry in self.guider.conds[WRAPPER_KEY] if CONDITIONING_KEY in entry]
            self.memory[WRAPPER_KEY] = {
                plain["uuid"]: (paired_entry(concept, auxiliary, self.rows), plain["model_conds"]["c_crossattn"].cond)
                for plain, concept, auxiliary in zip(*(prepared[first::3] for first in range(3)), strict=True)}
        found: dict[Any, tuple[dict[str, Any], Tensor]] = self.memory[WRAPPER_KEY]
        return found


def _without(conds: list[Any], left_out: set[int]) -> list[Any]:
    """The lists, with None at the indices to leave out, which ComfyUI does not evaluate."""
    return [None if index in left_out else entries for index, entries in enumerate(conds)]


def _marked_entries(conds: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Entries of positive conditionings that carry a `DualPrompt`."""
    return [entry for name, entries in conds.items() if name != "negative"
            for entry in entries if CONDITIONING_KEY in entry]


def _concept_callback(callback: Callable[..., Any] | None, rows: int) -> Callable[..., Any] | None:
    """The callback (step, denoised, latents, steps) as plain sampling calls it, with B rows."""
    if callback is None:
        return None
    return lambda step, denoised, latents, steps: callback(step, denoised[:rows], latents[:rows], steps)
