"""DBIM, the dual-branch integration module in one cross-attention layer (Jin et al., ECCV 2024, eqs. 3-5).

The paper's formulas leave the sharpening constants open; these are the ones its authors published in code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require
from .config import Aggregation

TOKEN_SHARPNESS = 10.0
SPACE_SHARPNESS = 10.0
SPACE_SCALE = 500.0
PUBLISHED_LATENTS = 64 * 64
"""Pixels of the latents for which the constants were chosen: Stable Diffusion 1.4 at 512 x 512."""


@dataclass(frozen=True)
class BranchTokens:
    """Where a branch's prompt puts its evidence.

    Attributes:
        length: T, the number of tokens of the prompt's context, padding included.
        content: columns that hold words: no begin, end or padding tokens.
        counted: the columns of `content` that make the branch's map: 'V noun' in the concept branch,
            everything but the auxiliary noun in the auxiliary branch.
    """

    length: int
    content: tuple[int, ...]
    counted: tuple[int, ...]

    def __post_init__(self) -> None:
        require(bool(self.content) and set(self.counted) <= set(self.content) <= set(range(self.length)),
                "tokens", f"content {self.content}, counted {self.counted}",
                f"counted columns among content columns among 0..{self.length - 1}",
                "Encode the prompt again, as it is written now.")


def branch_map(query: Tensor, key: Tensor, tokens: BranchTokens, bias: Tensor | None = None) -> Tensor:
    """m = sum over counted k of softmax_k(10 A[.., content]), A = softmax(Q K^T / sqrt(d)) over all T tokens.

    Args:
        query: (B, H, N, d).
        key: (B, H, T', d); only the first `tokens.length` keys are read, because a context that was repeated
            to the length of another one has the same softmax over its first copy.
        tokens: which of them hold words, and which count.
        bias: what an attention mask adds to the logits, (B, 1, 1, T'), -inf where a token is not read; or None.

    Returns:
        (B, H, N), values 0..1, float32.

    Source: eq. 3; METHODS 2, DBIM 1-3.
    """
    rest = sorted(set(range(tokens.length)) - set(tokens.content))
    key = key[:, :, [*tokens.content, *rest]].float() * query.shape[-1] ** -0.5  # content first: a slice, not a copy
    logits = torch.matmul(query.float(), key.transpose(-1, -2))
    logits = logits if bias is None else logits + bias[..., [*tokens.content, *rest]]
    content = logits.softmax(-1)[..., : len(tokens.content)]
    evidence = (TOKEN_SHARPNESS * content).exp_()  # of 0..10: needs no maximum taken off
    counted = evidence.new_tensor([float(column in tokens.counted) for column in tokens.content])
    return (evidence @ counted) / evidence.sum(-1)


def resolution_scale(pixels: int, scale: int) -> float:
    """500 n / 4096 for a layer of N pixels in latents of n = N scale^2 pixels.

    The mean of the sharpened map, 500 / N as published, is then at every latent size what it is at 64 x 64 in the layer
    of the same scale (*ours*).
    """
    return SPACE_SCALE * pixels * scale**2 / PUBLISHED_LATENTS


def sharpen_over_space(branch: Tensor, space_scale: float = SPACE_SCALE) -> Tensor:
    """500 softmax_u(10 m): a map (B, H, N) sharpened over its pixels u.

    Source: METHODS 2, DBIM 4. Its mean is 500 / N, so the mask of eq. 4 is softer on larger maps.
    """
    return space_scale * (SPACE_SHARPNESS * branch).softmax(-1)


def concept_mask(concept_map: Tensor, auxiliary_map: Tensor, omega: float, space_scale: float = SPACE_SCALE) -> Tensor:
    """M^c of [M^c, M^a] = softmax([sharp(m^c), omega sharp(m^a)]), (B, H, N); M^a = 1 - M^c.

    Source: eq. 4. omega multiplies a logit: 0 gives M^c = sigmoid(sharp(m^c)), it does not switch DCI off.
    """
    concept, auxiliary = (sharpen_over_space(branch, space_scale) for branch in (concept_map, auxiliary_map))
    return torch.sigmoid(concept - omega * auxiliary)


def integrate(concept: Tensor, auxiliary: Tensor, mask: Tensor) -> Tensor:
    """O = M^c O^c + M^a O^a, for attention outputs (B, H, N, d) before the output projection.

    Args:
        concept: O^c.
        auxiliary: O^a.
        mask: M^c, (B, H, N).

    Source: eq. 5.
    """
    return torch.lerp(auxiliary, concept, mask.to(concept.dtype).unsqueeze(-1))


def integrate_without_masks(concept: Tensor, auxiliary: Tensor, aggregation: Aggregation) -> Tensor:
    """O^c + O^a ('sum', the paper's ablation), or half of it ('half', which keeps the outputs' size; *ours*).

    Source: section 4.3, 'w/o mask'.
    """
    return concept + auxiliary if aggregation == "sum" else torch.lerp(auxiliary, concept, 0.5)
