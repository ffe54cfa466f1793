"""Where a network looks for a noun: its cross-attention to the noun's tokens, averaged and cut to a mask.

Source: Tang et al., *What the DAAM: Interpreting Stable Diffusion Using Cross Attention*, 2022, section 3: a word's
attention, summed over heads, layers and steps after scaling to one size, cut at a threshold. Ours: the photo is noised
and looked at instead of sampled, only layers of a middling grid count, and Otsu's threshold replaces a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .dbim import BranchTokens
from .observation import Grid, grid_of, resize, stretch

CELLS = (16, 32)
"""The shorter side of the grids that tell places: fewer cells say whether a noun is there, more follow texture
(Hertz et al., *Prompt-to-Prompt*, 2022, who take 16 x 16)."""
BINS = 256


def attention_to(query: Tensor, key: Tensor, tokens: BranchTokens, bias: Tensor | None = None) -> Tensor:
    """sum over counted k of softmax_k(Q K^T / sqrt(d)), over all T tokens, averaged over heads.

    Args:
        query: (B, H, N, d).
        key: (B, H, T', d); only the first `tokens.length` keys are read, as a repeated context has the same softmax.
        tokens: which of them count.
        bias: what an attention mask adds to the logits, (B, 1, 1, T'), -inf where a token is not read; or None.

    Returns:
        (B, N), values 0..1, float32.
    """
    logits = query.float() @ key[:, :, : tokens.length].float().transpose(-1, -2) * query.shape[-1] ** -0.5
    logits = logits if bias is None else logits + bias[..., : tokens.length]
    shares: Tensor = logits.softmax(-1)[..., list(tokens.counted)].sum(-1)
    return shares.mean(1)


def nearest_grids(grids: Mapping[str, Grid]) -> set[Grid]:
    """The grids whose shorter side has 16 to 32 cells; where none has, the one that is nearest to that by a factor."""
    low, high = CELLS

    def distance(grid: Grid) -> float:
        return max(0.0, math.log(low / min(grid)), math.log(min(grid) / high))

    least = min(map(distance, grids.values()))
    return {grid for grid in grids.values() if distance(grid) == least}


def otsu_threshold(values: Tensor) -> float:
    """The cut of values in 0..1 that leaves both sides most alike: argmax of w_0 w_1 (mu_0 - mu_1)^2.

    Source: Otsu, *A Threshold Selection Method from Gray-Level Histograms*, 1979, eq. 14; over 256 bins, the middle of
    the bins that are equally good.
    """
    counts = torch.histc(values.double().clamp(0, 1), BINS, 0, 1)
    centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    below, moment = counts.cumsum(0), (counts * centres).cumsum(0)
    above = below[-1] - below
    between = (moment * above - (moment[-1] - moment) * below).square() / (below * above).clamp_min(1)
    best = (between >= between.max() * (1 - 1e-9)).nonzero().flatten().double()
    return float((best.mean() + 1) / BINS)


class NounAttention:
    """A running mean of the attention to a noun, layer by layer, over the network calls of one picture.

    Args:
        height: of the latents.
        width: of the latents.
    """

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width
        self._totals: dict[str, Tensor] = {}
        self._grids: dict[str, Grid] = {}

    def record(self, layer: str, attention: Tensor) -> None:
        """Take in one layer's attention (N,) in one network call."""
        self._grids[layer] = grid_of(attention.shape[-1], self.height, self.width)
        self._totals[layer] = self._totals.get(layer, 0) + attention.detach().float().cpu()

    def heat(self, height: int, width: int) -> Tensor:
        """The mean of the chosen layers at a size of its own, each by its own mean, stretched to 0..1: (height, width).

        Layers attend to a noun unequally much; divided by its mean each counts alike.
        """
        chosen = nearest_grids(self._grids)
        maps = [resize((total / total.mean().clamp_min(1e-12)).reshape(1, *self._grids[layer]), height, width)[0]
                for layer, total in self._totals.items() if self._grids[layer] in chosen]
        return stretch(torch.stack(maps).mean(0, keepdim=True))[0]


def cut(heat: Tensor, threshold: float = 0.0) -> Tensor:
    """1 where the heat (H, W) in 0..1 is above the threshold, or above Otsu's where that is 0; 0 elsewhere."""
    return (heat > (threshold or otsu_threshold(heat))).float()
