"""A prompt and its auxiliary prompt in one CONDITIONING, with the tokens that DCI's masks are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....core.dci.dbim import BranchTokens
from ....core.dci.subjects import SubjectPrompt
from ....core.errors import InputError
from ....core.model.contracts import Conditioning, concat_rows
from ..text.token_positions import locate_branches, tokenize_branches

CONDITIONING_KEY = "personalize_dci"
"""Where a CONDITIONING carries its `DualPrompt`; sampling without DCI does not look there."""


@dataclass(frozen=True, eq=False)
class DualPrompt:
    """What one CONDITIONING entry carries for its auxiliary branch.

    Attributes:
        concept_context: the entry's own context (1, T, D), kept to notice nodes that change it afterwards.
        auxiliary_context: (1, T', D), the auxiliary prompt as the same text encoder sees it.
        auxiliary_pooled: (1, P), or None where the text encoder pools nothing.
        concept: tokens of the prompt; 'V noun' is counted.
        auxiliary: tokens of the auxiliary prompt; all but the auxiliary noun are counted.
    """

    concept_context: Tensor
    auxiliary_context: Tensor
    auxiliary_pooled: Tensor | None
    concept: BranchTokens
    auxiliary: BranchTokens

    def lengthened(self, columns: int) -> DualPrompt:
        """The same words in contexts with more columns behind them."""
        concept, auxiliary = (replace(tokens, length=tokens.length + columns) for tokens in
                              (self.concept, self.auxiliary))
        return replace(self, concept=concept, auxiliary=auxiliary)


def encode_dual_prompt(clip: Any, subject: SubjectPrompt) -> list[list[Any]]:
    """The CONDITIONING of the prompt as stock CLIPTextEncode gives it, every entry with its `DualPrompt`.

    Raises:
        InputError: as `locate_branches`.
    """
    concept, auxiliary = locate_branches(clip, subject)
    entries, others = map(clip.encode_from_tokens_scheduled, tokenize_branches(clip, subject))
    conditioning = []
    for (context, extra), (other, other_extra) in zip(entries, others, strict=True):
        dual = DualPrompt(context, other, other_extra.get("pooled_output"), concept, auxiliary)
        conditioning.append([context, {**extra, CONDITIONING_KEY: dual}])
    return conditioning


def paired_rows(prompt: DualPrompt, context: Tensor | None, pooled: Tensor | None,
                rows: int) -> tuple[Conditioning, DualPrompt]:
    """The texts of both branches, row by row: (2 B, T, D), concept rows first; and the prompt as it stands in them.

    Text that another node appended to the context is read by both branches and counts in neither map.

    Args:
        prompt: what the CONDITIONING entry carries.
        context: the entry's context as it reached the sampler.
        pooled: the entry's pooled output.
        rows: B.

    Raises:
        InputError: where another node changed the text itself.
    """
    encoded = prompt.concept_context
    length = encoded.shape[1]
    if context is None or context.shape[1] < length or not torch.equal(context[:, :length], encoded):
        raise InputError("conditioning", "a conditioning whose text another node changed after DCI encoded it",
                         "the text as DCI encoded it, or with more text behind it",
                         "Remove nodes such as Average or ZeroOut between it and the sampler.")
    appended = context[:, length:]
    other = torch.cat([prompt.auxiliary_context, appended.to(prompt.auxiliary_context)], dim=1)
    both = pooled is not None and prompt.auxiliary_pooled is not None
    concept = Conditioning(context, pooled if both else None)
    auxiliary = Conditioning(other, prompt.auxiliary_pooled if both else None)
    return concat_rows([concept] * rows + [auxiliary] * rows), prompt.lengthened(appended.shape[1])
