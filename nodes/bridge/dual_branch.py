"""DCI inside ComfyUI's sampling: the sampler carries 2 B latents, concept rows first, then auxiliary rows.

Everything is installed per sampling run by one OUTER_SAMPLE wrapper, so the order of nodes does not matter,
MODEL clones share no state, and what other nodes patched stays: `_Run.route` chooses which rows the network
sees at a noise level, `_Mixing` applies DBIM to the concept rows of one cross-attention layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor, nn

from ...core.conditioning import Conditioning, concat_rows
from ...core.dci.config import DCIConfig
from ...core.dci.dbim import branch_map, concept_mask, integrate
from ...core.dci.latents import auxiliary_noise, share_noise_prediction
from ...core.errors import InputError, require
from .dual_prompt import CONDITIONING_KEY, DualPrompt

logger = logging.getLogger(__name__)

Block = tuple[str, int, int]
"""A cross-attention layer: part of the network, number of the block in it, number of the layer in that."""
Pairs = Mapping[tuple[int, Any], DualPrompt]
"""The entries that both branches see, by list index and uuid."""
WRAPPER_KEY = "personalize_dci"


def patch_dual_branch(model: Any, config: DCIConfig) -> Any:
    """A clone of the MODEL that samples with two branches wherever a conditioning carries a `DualPrompt`.

    Raises:
        InputError: for a MODEL without cross-attention layers.
    """
    blocks = cross_attention_blocks(model)
    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, DualBranchSampling(config, blocks))
    return patched


def cross_attention_blocks(model: Any) -> tuple[Block, ...]:
    """The cross-attention layers of a UNet, named as ComfyUI's attention patches name them."""
    network = model.get_model_object("diffusion_model")
    blocks = tuple(_unet_blocks(network))
    require(bool(blocks), "model", f"{type(network).__name__}, which has no separate cross-attention layers",
            "a UNet with cross-attention (SD 1.x, SD 2.x, SDXL)",
            "Use such a model; in models with joint attention (Flux, SD3) DCI does not exist yet.")
    return blocks


def _unet_blocks(network: nn.Module) -> Iterator[Block]:
    parts = (("input", "input_blocks"), ("middle", "middle_block"), ("output", "output_blocks"))
    for name, attribute in parts:
        part = getattr(network, attribute, None)
        for number, block in enumerate([part] if name == "middle" else part or []):
            for module in block.modules() if block is not None else ():
                layers = getattr(module, "transformer_blocks", None) or ()
                yield from ((name, number, index) for index, layer in enumerate(layers)
                            if getattr(layer, "attn2", None) is not None)


@dataclass(frozen=True)
class DualBranchSampling:
    """The OUTER_SAMPLE wrapper of a patched MODEL. It keeps no state between runs: clones share it."""

    config: DCIConfig
    blocks: tuple[Block, ...]

    def __call__(self, executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor,
                 denoise_mask: Tensor | None = None, callback: Callable | None = None,
                 disable_pbar: bool = False, seed: int | None = None,
                 latent_shapes: list | None = None) -> Tensor:
        """One sampling run with 2 B rows, or the plain run where DCI has nothing to do."""
        guider = executor.class_obj
        schedule = guider.model_patcher.get_model_object("model_sampling")
        window_end = float(schedule.percent_to_sigma(self.config.window))
        entries = _marked_entries(guider.conds)
        if not entries:
            logger.warning("This MODEL is patched for DCI, but its positive conditioning is not from "
                           "DCIConditioning: sampling without DCI.")
        if not entries or float(sigmas.max()) <= window_end:
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed,
                            latent_shapes=latent_shapes)
        rows = noise.shape[0]
        for entry in entries:
            _pair_rows(entry, rows)
        run = _Run(self.config, self.blocks, rows, window_end)
        add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, WRAPPER_KEY, run.route, guider.model_options, True)
        samples = executor(
            torch.cat([noise, auxiliary_noise(noise, seed or 0)]), torch.cat([latent_image] * 2), sampler,
            sigmas, None if denoise_mask is None else torch.cat([denoise_mask] * 2),
            _concept_callback(callback, rows), disable_pbar, seed,
            latent_shapes=latent_shapes and [[2 * shape[0], *shape[1:]] for shape in latent_shapes],
        )
        return samples[:rows]


@dataclass(frozen=True)
class _Run:
    """One sampling run of `rows` pictures, 2 x `rows` latents."""

    config: DCIConfig
    blocks: tuple[Block, ...]
    rows: int
    window_end: float

    def route(self, executor: Any, model: Any, conds: list, latents: Tensor, sigma: Tensor,
              options: dict) -> list[Tensor]:
        """Estimates D(z) of all 2 B rows for every list of conditions, from as few network rows as possible.

        After the window only concept rows are evaluated, and auxiliary rows stand still. Inside it, lists
        without a `DualPrompt` (the unconditional ones) are evaluated for concept rows only when guidance is
        shared.
        """
        concept, auxiliary = latents[: self.rows], latents[self.rows :]
        if float(sigma.max()) <= self.window_end:
            estimates = executor(model, conds, concept, sigma[: self.rows], options)
            return [torch.cat([estimate, auxiliary]) for estimate in estimates]
        pairs = {(index, entry["uuid"]): entry[CONDITIONING_KEY]
                 for index, entries in enumerate(conds) for entry in entries or () if self._is_paired(entry)}
        paired = {index for index, _ in pairs}
        single = {index for index, entries in enumerate(conds) if entries and index not in paired}
        if not self.config.shared_guidance:
            return executor(model, conds, latents, sigma, self._with_mixing(options, pairs))
        dual = executor(model, _only(conds, paired), latents, sigma, self._with_mixing(options, pairs))
        if single:
            shared = executor(model, _only(conds, single), concept, sigma[: self.rows], options)
            for index in single:
                estimate = share_noise_prediction(shared[index], concept, auxiliary)
                dual[index] = torch.cat([shared[index], estimate])
        return dual

    def _is_paired(self, entry: dict) -> bool:
        """Whether an entry holds rows for both branches; ComfyUI copies markers into negatives of areas."""
        context = entry["model_conds"].get("c_crossattn")
        return CONDITIONING_KEY in entry and context is not None and context.cond.shape[0] == 2 * self.rows

    def _with_mixing(self, options: dict, pairs: Pairs) -> dict:
        """Model options with DBIM in every cross-attention layer, around earlier replacements."""
        transformer = options.get("transformer_options", {})
        replace = transformer.get("patches_replace", {})
        before = replace.get("attn2", {})
        omega = self.config.omega
        mixing = {block: _Mixing(before.get(block, before.get(block[:2])), pairs, self.rows, omega)
                  for block in self.blocks}
        replace = {**replace, "attn2": {**before, **mixing}}
        return {**options, "transformer_options": {**transformer, "patches_replace": replace}}


@dataclass(frozen=True)
class _Mixing:
    """Cross-attention of one layer, with DBIM on the concept rows of every paired entry."""

    before: Callable | None
    pairs: Pairs
    rows: int
    omega: float

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, options: dict) -> Tensor:
        """Projected query (R, N, H d), key and value (R, T, H d) to attention outputs (R, N, H d).

        R = 2 B rows of each entry in the call, one entry after the other.
        """
        heads = options["n_heads"]
        if self.before is None:
            out = optimized_attention(query, key, value, heads, attn_precision=options.get("attn_precision"),
                                      transformer_options=options)
        else:
            out = self.before(query, key, value, options).clone()
        entries = zip(options["cond_or_uncond"], options["uuids"], strict=True)
        for number, entry in enumerate(entries):
            if entry in self.pairs:
                start = 2 * self.rows * number
                span = slice(start, start + 2 * self.rows)
                self._mix(out[span], query[span], key[span], heads, self.pairs[entry])
        return out

    def _mix(self, out: Tensor, query: Tensor, key: Tensor, heads: int, prompt: DualPrompt) -> None:
        """Replace the concept rows of one entry's outputs (2 B, N, H d) in place."""
        query, key = _split_heads(query, heads), _split_heads(key, heads)
        concept, auxiliary = slice(None, self.rows), slice(self.rows, None)
        mask = concept_mask(branch_map(query[concept], key[concept], prompt.concept),
                            branch_map(query[auxiliary], key[auxiliary], prompt.auxiliary), self.omega)
        outputs = _split_heads(out, heads)
        mixed = integrate(outputs[concept], outputs[auxiliary], mask)
        out[concept] = mixed.transpose(1, 2).flatten(2)


def _split_heads(rows: Tensor, heads: int) -> Tensor:
    """(R, N, H d) to (R, H, N, d)."""
    return rows.unflatten(-1, (heads, -1)).transpose(1, 2)


def _only(conds: list, kept: set[int]) -> list:
    """The lists at the indices to keep; None elsewhere, which ComfyUI does not evaluate."""
    return [entries if index in kept else None for index, entries in enumerate(conds)]


def _marked_entries(conds: Mapping[str, list[dict]]) -> list[dict]:
    """Entries of positive conditionings that carry a `DualPrompt`."""
    return [entry for name, entries in conds.items() if name != "negative"
            for entry in entries if CONDITIONING_KEY in entry]


def _pair_rows(entry: dict, rows: int) -> None:
    """Give an entry the texts of both branches, row by row: (2 B, T, D), concept rows first.

    Rows of one entry never land in different network calls, and ComfyUI cuts them to the first B when B are
    evaluated.
    """
    prompt: DualPrompt = entry[CONDITIONING_KEY]
    context = entry.get("cross_attn")
    encoded = prompt.concept_context
    if context is not encoded and (context is None or not torch.equal(context, encoded)):
        raise InputError("conditioning", "a conditioning that another node changed after DCIConditioning",
                         "the text as DCIConditioning encoded it",
                         "Remove nodes such as Average, Concat or ZeroOut between it and the sampler.")
    pooled = entry.get("pooled_output")
    both = pooled is not None and prompt.auxiliary_pooled is not None
    concept = Conditioning(context, pooled if both else None)
    auxiliary = Conditioning(prompt.auxiliary_context, prompt.auxiliary_pooled if both else None)
    paired = concat_rows([concept] * rows + [auxiliary] * rows)
    entry["cross_attn"] = paired.context
    if both:
        entry["pooled_output"] = paired.pooled


def _concept_callback(callback: Callable | None, rows: int) -> Callable | None:
    """The callback (step, denoised, latents, steps) as plain sampling calls it, with B rows."""
    if callback is None:
        return None
    return lambda step, denoised, latents, steps: callback(step, denoised[:rows], latents[:rows], steps)
