"""Rows of conditioning as the loaded model's own family takes them, and which of them fit into one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy.conds import CONDCrossAttn
from torch import Tensor

from ....core.model.contracts import Conditioning, map_tensors
from .latent_shapes import has_frames

Conditions = Mapping[str, Any]
"""ComfyUI's `comfy.conds` objects by the names under which the network takes them."""


def conditions_of(model: Any, row: Conditioning, noisy: Tensor, size: tuple[int, int]) -> Conditions:
    """What the model's `extra_conds` makes of a whole row, as stock sampling asks it. An inpainting model reads a full
    mask, as it does at sampling without one.

    Args:
        model: ComfyUI's model, loaded.
        noisy: (1, C, h, w) or (1, C, 1, h, w), on the device that the network computes on.
        size: height and width in pixels, for families that are told it, where the row says nothing else.
    """
    device = noisy.device
    given = {"height": size[0], "width": size[1], **row.extra}
    if "reference_latents" in given:
        given["reference_latents"] = with_frames(model, given["reference_latents"])
    given = {name: map_tensors(lambda tensor: tensor.to(device), value) for name, value in given.items()}
    pooled = None if row.pooled is None else row.pooled.to(device)
    made = model.extra_conds(cross_attn=row.context.to(device), pooled_output=pooled, noise=noisy, device=device,
                             latent_image=torch.zeros_like(noisy), prompt_type="positive", **given)
    return {name: value.process_cond(batch_size=1, area=None, device=device) for name, value in made.items()}


def with_frames(model: Any, latents: Sequence[Tensor]) -> list[Tensor]:
    """Reference latents (1, C, h, w) as the model's VAE gives them to stock nodes: of one frame where it has frames."""
    return [one[:, :, None] if has_frames(model) and one.ndim == 4 else one for one in latents]


def calls_of(rows: Sequence[Conditions], may_repeat_text: bool) -> list[list[int]]:
    """The row numbers of each call of the network: rows that stand in one are what they are alone.

    Args:
        rows: the conditions of each.
        may_repeat_text: whether a text that is repeated as a whole is the text itself.
    """
    calls: list[list[int]] = []
    for number, row in enumerate(rows):
        call = next((call for call in calls if _fit(rows[call[0]], row, may_repeat_text)), None)
        if call is None:
            calls.append(call := [])
        call.append(number)
    return calls


def joined(rows: Sequence[Conditions]) -> dict[str, Any]:
    """The conditions of the rows of one call, as the network takes them."""
    first, *others = rows
    return {name: condition.concat([other[name] for other in others]) for name, condition in first.items()}


def _fit(one: Conditions, other: Conditions, may_repeat_text: bool) -> bool:
    return one.keys() == other.keys() and all(_can_stack(one[name], other[name], may_repeat_text) for name in one)


def _can_stack(one: Any, other: Any, may_repeat_text: bool) -> bool:
    """ComfyUI's `can_concat`, but that texts are repeated only where that changes nothing, and then always."""
    if isinstance(one, CONDCrossAttn):
        return may_repeat_text or one.cond.shape == other.cond.shape
    return bool(one.can_concat(other))
