"""Texts of several lengths in one call: padded, where the network reads an attention mask over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ....core.model.contracts import Conditioning
from .conditions import Conditions

MASK = "attention_mask"
"""ComfyUI's name of it, 1 for a token that counts, in a CONDITIONING and in what a network is given."""
CLOSE, CLOSE_IN_HALF = 1e-5, 2e-2
"""Largest difference between a padded row and the row alone, as a share of its largest value; in float32, and
in 16 bits."""


def padded(row: Conditioning, length: int, fill: float = 0.0) -> Conditioning:
    """The row with a text of so many tokens, the new ones hidden by its mask.

    Args:
        fill: what the new tokens hold.
    """
    tokens = row.context.shape[1]
    mask = row.extra.get(MASK, torch.ones(1, tokens, dtype=torch.long, device=row.context.device))
    context = functional.pad(row.context, (0, 0, 0, length - tokens), value=fill)
    return replace(row, context=context, extra={**row.extra, MASK: functional.pad(mask, (0, length - tokens))})


def are_masked(rows: Sequence[Conditions]) -> bool:
    """Whether the network is given a mask with every row."""
    return all(MASK in row for row in rows)


@torch.no_grad()
def reads_masks(predict: Callable[[Conditioning], Tensor], row: Conditioning, length: int) -> bool:
    """Whether padding changes nothing: some families hand their network a mask that it does not read.

    The row is predicted alone, and padded with two fillings: a mask that is read makes those the same to the last bit.
    """
    alone, *padding = (predict(one) for one in (row, padded(row, length), padded(row, length, fill=7.0)))
    is_half = row.context.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled(alone.device.type)
    error = (padding[0] - alone).abs().max() / alone.abs().max()
    return torch.equal(*padding) and float(error) <= (CLOSE_IN_HALF if is_half else CLOSE)
