"""The network's prediction for rows of noisy latents, in as few forwards as their texts allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..data.batch import Rows
from ..model.contracts import Conditioning, Denoiser, concat_rows


def predict(denoiser: Denoiser, rows: Rows, texts: Sequence[Conditioning]) -> Tensor:
    """The prediction (N, C, h, w) for the noisy rows, in the network's own prediction space; every row is what it is
    alone.

    Args:
        texts: one row of conditioning for each.
    """
    noisy = denoiser.schedule.add_noise(rows.latents, rows.noise, rows.index)
    forwards = forwards_of([text.context.shape[1] for text in texts], denoiser.may_repeat_text)
    if len(forwards) == 1:
        return denoiser(noisy, rows.index, replace(concat_rows(texts), concat=rows.concat)).float()
    parts = []
    for numbers in forwards:
        concat = None if rows.concat is None else rows.concat[numbers]
        text = replace(concat_rows([texts[number] for number in numbers]), concat=concat)
        parts.append(denoiser(noisy[numbers], rows.index[numbers], text).float())
    order = torch.tensor([number for numbers in forwards for number in numbers], device=noisy.device)
    return torch.cat(parts)[order.argsort()]


def forwards_of(lengths: Sequence[int], may_repeat_text: bool) -> list[list[int]]:
    """The row numbers of each forward: all rows, or where texts may not be repeated those of one length."""
    if may_repeat_text:
        return [list(range(len(lengths)))]
    return [[number for number, own in enumerate(lengths) if own == length] for length in dict.fromkeys(lengths)]
