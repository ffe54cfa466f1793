"""The network's prediction for rows of noisy latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..data.batch import Rows
from ..model.contracts import Conditioning, Denoiser


def predict(denoiser: Denoiser, rows: Rows, texts: Sequence[Conditioning]) -> Tensor:
    """The prediction (N, C, h, w) for the noisy rows, in the network's own prediction space; every row is what it is
    alone.

    Args:
        texts: one row of conditioning for each.
    """
    noisy = denoiser.schedule.add_noise(rows.latents, rows.noise, rows.index)
    if rows.concat is not None:
        texts = [replace(text, concat=concat) for text, concat in zip(texts, rows.concat.split(1), strict=True)]
    if rows.references:
        texts = [text if shown is None else text.beside(shown.conditions())
                 for text, shown in zip(texts, rows.references, strict=True)]
    return denoiser(noisy, rows.index, texts).float()


def is_bf16(precision: str, device: torch.device) -> bool:
    """Whether a forward pass is computed in bf16: as asked, or with "auto" on cards that have it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
