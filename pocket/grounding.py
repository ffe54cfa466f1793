"""Does a noun's attention lie on its thing? Where it should lie, and a loss that says so beside the denoising loss.

The world knows the exact mask of each thing that a caption names, so that cross-attention need not find by itself which
cells are whose. Source: Wang et al. 2024 (TokenCompose), where masks come from a segmentation network; here in one
divergence, which asks for all cells of a thing and for no others.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .config import CELLS
from .drawing import coverage
from .language import plural
from .scenes import Scene
from .tokens import vocabulary

MOST_THINGS: Final = 3
COARSEST: Final = (CELLS // 2) ** 2
"""Cells of the coarsest maps that are asked: of 3 x 3 a thing fills one or two."""


def noun_targets(scene: Scene, rows: np.ndarray, label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a caption names its things, and which cells show them.

    Args:
        rows: (77,) compact token rows of the caption.
        label_map: of the rendered scene.

    Returns:
        Positions of the nouns' last tokens, (3,) int64, 0 where there is none; the share of each cell, (3, 12, 12).
        Things of one noun ('two dogs') are one, as their token is.
    """
    words = vocabulary().rows
    places, shares = np.zeros(MOST_THINGS, dtype=np.int64), np.zeros((MOST_THINGS, CELLS, CELLS), dtype=np.float32)
    nouns = [thing.look.noun for thing in scene.things]
    for i, noun in enumerate(dict.fromkeys(nouns)):
        row = words[noun if nouns.count(noun) == 1 else plural(noun)][-1]
        found = np.flatnonzero(rows == row)
        share = np.sum([coverage(label_map, k + 1, CELLS) for k, other in enumerate(nouns) if other == noun], axis=0)
        if len(found) and share.any():
            places[i], shares[i] = found[0], share
    return places, shares


def grounding_loss(maps: list[Tensor], places: Tensor, shares: Tensor, weight: Tensor) -> Tensor:
    """Mean over nouns of KL(share of the thing's cells || the noun's attention, as a distribution over cells).

    Args:
        maps: cross-attention probabilities of each layer, (P, heads, k h w, 77), for k pictures of a prompt in a row.
        places, shares: (P, 3) and (P, 3, 12, 12), see `noun_targets`.
        weight: (P, k) of each picture.

    Returns:
        A scalar, 0 where each noun looks at all cells of its thing evenly and at no other.
    """
    (count, each), is_named = weight.shape, (places > 0).float()
    losses = []
    for attention in maps:
        cells = attention.shape[2] // each
        if cells < COARSEST:
            continue
        side = round(cells**0.5)
        wanted = functional.adaptive_avg_pool2d(shares, side).flatten(2)
        wanted = (wanted / wanted.sum(-1, keepdim=True).clamp(min=1e-6)).unsqueeze(1)  # (P, 1, 3, cells)
        index = places.view(count, 1, 1, -1).expand(-1, *attention.shape[1:3], -1)
        of_nouns = attention.gather(3, index).float().mean(1).unflatten(1, (each, cells)).transpose(2, 3)
        found = of_nouns / of_nouns.sum(-1, keepdim=True).clamp(min=1e-12)
        divergence = (wanted * ((wanted + 1e-6).log() - (found + 1e-6).log())).sum(-1)  # (P, k, 3)
        asked = weight.unsqueeze(-1) * is_named.unsqueeze(1)
        losses.append((divergence * asked).sum() / asked.sum().clamp(min=1e-6))
    return torch.stack(losses).mean()
