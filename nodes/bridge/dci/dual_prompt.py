"""A prompt and its auxiliary prompt in one CONDITIONING, with the tokens that DCI's masks are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from comfy.conds import CONDConstant, CONDCrossAttn, CONDRegular
from torch import Tensor

from ....core.dci.dbim import BranchTokens
from ....core.dci.subjects import SubjectPrompt
from ....core.errors import InputError, require
from ..text.token_positions import context_rows, locate_branches, tokenize_branches

CONDITIONING_KEY = "personalize_dci"
"""Where a CONDITIONING carries its `DualPrompt`; sampling without DCI does not look there."""
Encoded = tuple[Tensor, Mapping[str, Any]]
"""A context (1, T, D), and what else a text encoder gives with it: pooled output, masks, other encoders' rows."""


@dataclass(frozen=True, eq=False)
class DualPrompt:
    """What one CONDITIONING entry carries for its auxiliary branch.

    Attributes:
        concept_context: the entry's own context (1, T, D), kept to notice nodes that change it afterwards.
        auxiliary_context: (1, T', D), the auxiliary prompt as the same text encoder sees it.
        auxiliary_pooled: (1, P), or None where the text encoder pools nothing.
        concept: tokens of the prompt; 'V noun' is counted.
        auxiliary: tokens of the auxiliary prompt; all but the auxiliary noun are counted.
        auxiliary_extra: what else the text encoder gives with the auxiliary prompt.
        padded: the prompt as it is encoded at the length of a longer auxiliary prompt; None where it is as long itself.
        given: names of what the text encoder gave with the prompt.
    """

    concept_context: Tensor
    auxiliary_context: Tensor
    auxiliary_pooled: Tensor | None
    concept: BranchTokens
    auxiliary: BranchTokens
    auxiliary_extra: Mapping[str, Any] = field(default_factory=dict)
    padded: Encoded | None = None
    given: tuple[str, ...] = ()

    def lengthened(self, columns: int) -> DualPrompt:
        """The same words in contexts with more columns behind them."""
        concept, auxiliary = (replace(tokens, length=tokens.length + columns) for tokens in
                              (self.concept, self.auxiliary))
        return replace(self, concept=concept, auxiliary=auxiliary)


def encode_dual_prompt(clip: Any, subject: SubjectPrompt) -> list[list[Any]]:
    """The CONDITIONING of the prompt as stock CLIPTextEncode gives it, every entry with its `DualPrompt`.

    Raises:
        InputError: as `locate_branches`, and where the text encoder's rows are not its tokens'.
    """
    located = locate_branches(clip, subject)
    plain, padded, auxiliary = tokenize_branches(clip, subject)
    entries, others = map(clip.encode_from_tokens_scheduled, (plain, auxiliary))
    aligned = entries if padded == plain else clip.encode_from_tokens_scheduled(padded)
    conditioning = []
    for (context, extra), (other, other_extra), (long, long_extra) in zip(entries, others, aligned, strict=True):
        concept, rest = context_rows(clip, (padded, auxiliary), (long, other), located)
        dual = DualPrompt(context, other, other_extra.get("pooled_output"), concept, rest,
                          {name: value for name, value in other_extra.items() if name != "pooled_output"},
                          None if aligned is entries else (long, long_extra), tuple(extra))
        conditioning.append([context, {**extra, CONDITIONING_KEY: dual}])
    return conditioning


def branch_entries(entry: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A sampler's entry as each branch reads it while both run.

    Text that another node appended to the context is read by both branches and counts in neither map.

    Raises:
        InputError: where another node changed the text itself.
    """
    prompt: DualPrompt = entry[CONDITIONING_KEY]
    context, encoded = entry.get("cross_attn"), prompt.concept_context
    length = encoded.shape[1]
    if context is None or context.shape[1] < length or not torch.equal(context[:, :length], encoded):
        raise InputError("conditioning", "a conditioning whose text another node changed after DCI encoded it",
                         "the text as DCI encoded it, or with more text behind it",
                         "Remove nodes such as Average or ZeroOut between it and the sampler.")
    appended = context[:, length:]
    concept = {**entry, CONDITIONING_KEY: prompt.lengthened(appended.shape[1])}
    pooled = {} if prompt.auxiliary_pooled is None or entry.get("pooled_output") is None else \
        {"pooled_output": prompt.auxiliary_pooled}
    auxiliary = _with_text(concept, (prompt.auxiliary_context, {**prompt.auxiliary_extra, **pooled}), appended)
    return concept if prompt.padded is None else _with_text(concept, prompt.padded, appended), auxiliary


def paired_entry(concept: Mapping[str, Any], auxiliary: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Both branches' entries, as ComfyUI prepared them for the network, in one of 2 B rows, concept rows first.

    Raises:
        InputError: where the two prompts cannot stand in one call, or no context is read.
    """
    first, second = concept["model_conds"], auxiliary["model_conds"]
    require("c_crossattn" in first, "model", "a network whose text does not reach it as a context", "one whose does",
            "Sample it without DCI.")
    prompt: DualPrompt = concept[CONDITIONING_KEY]
    prompt = replace(prompt, concept=read_tokens(prompt.concept, concept),
                     auxiliary=read_tokens(prompt.auxiliary, auxiliary))
    conditions = {name: _paired(name, first.get(name), second.get(name), rows)
                  for name in [*first, *(name for name in second if name not in first)]}
    return {**concept, "model_conds": conditions, CONDITIONING_KEY: prompt}


def read_tokens(tokens: BranchTokens, entry: Mapping[str, Any]) -> BranchTokens:
    """A prompt's tokens as they stand in the context that the network reads.

    Some networks pad a context, Flux.2 before the text, others behind it; Anima reads another one altogether, of T5's
    tokens, whose columns these are already.

    Raises:
        InputError: where the text is not in it.
    """
    if isinstance(entry["model_conds"]["c_crossattn"], CONDCrossAttn):  # it repeats a shorter text: no column moves
        return tokens
    context, read = entry["cross_attn"], entry["model_conds"]["c_crossattn"].cond
    columns = read.shape[1] - context.shape[1]
    before = 0
    if "t5xxl_ids" not in entry and columns != 0:
        places = [place for place in (0, columns) if columns > 0 and _is_there(context, read, place)]
        require(bool(places), "prompt", f"a text of {context.shape[1]} tokens, which the network reads as "
                f"{read.shape[1]} others", "a network that reads the text as it was encoded",
                "Sample this model without DCI.")
        before = places[0]
    content, counted = (tuple(column + before for column in found) for found in (tokens.content, tokens.counted))
    return BranchTokens(read.shape[1], content, counted)


def _is_there(context: Tensor, read: Tensor, place: int) -> bool:
    part = read[:1, place : place + context.shape[1]]
    return part.shape[-1] == context.shape[-1] and torch.equal(part, context[:1].to(part))


def _paired(name: str, concept: Any, auxiliary: Any, rows: int) -> Any:
    one, other = concept or _ones_like(name, auxiliary), auxiliary or _ones_like(name, concept)
    if isinstance(one, CONDConstant):
        is_count = isinstance(one.cond, int) and isinstance(other.cond, int)
        return CONDConstant(max(one.cond, other.cond)) if is_count else one
    if isinstance(one.cond, Tensor) and one.cond.shape[0] == 2 * rows:  # made of the latents: both branches' already
        return one
    first, second = (each.process_cond(batch_size=rows, area=None) for each in (one, other))
    if type(one) is CONDRegular:
        shapes = [list(each.cond.shape[1:]) for each in (first, second)]
        require(shapes[0] == shapes[1], "prompt", f"{name} of shape {shapes[0]} beside {shapes[1]} of the auxiliary "
                "prompt", "the same shape for both", "Shorten the prompt, or choose an auxiliary noun of as many "
                "tokens as the subject has.")
    return one._copy_with(first.concat([second]))


def _ones_like(name: str, cond: Any) -> Any:
    """The mask of a branch whose text needs none, as the other's is."""
    require("mask" in name, "prompt", f"a prompt of which one branch alone has {name}", "both or neither",
            "Leave quotation marks out of the subject and of the auxiliary noun.")
    return cond._copy_with(torch.ones_like(cond.cond))


def _with_text(entry: Mapping[str, Any], text: Encoded, appended: Tensor) -> dict[str, Any]:
    """The entry with another text in place of its own."""
    context, extra = text
    given = entry[CONDITIONING_KEY].given
    kept = {name: value for name, value in entry.items() if name not in given or name == "pooled_output"}
    return {**kept, **extra, "cross_attn": torch.cat([context, appended.to(context)], dim=1)}
