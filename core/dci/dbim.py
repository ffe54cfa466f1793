"""DBIM, the dual-branch integration module in one cross-attention layer (Jin et al., ECCV 2024, eqs. 3-5).

The paper's formulas leave the sharpening constants open; these are the ones its authors published in code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require

TOKEN_SHARPNESS = 10.0
SPACE_SHARPNESS = 10.0
SPACE_SCALE = 500.0


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
                "Encode the prompt again with DCIConditioning.")


def branch_map(query: Tensor, key: Tensor, tokens: BranchTokens) -> Tensor:
    """m = sum over counted k of softmax_k(10 A[.., content]), A = softmax(Q K^T / sqrt(d)) over all T tokens.

    Args:
        query: (B, H, N, d).
        key: (B, H, T', d); only the first `tokens.length` keys are read, because a context that was repeated
            to the length of another one has the same softmax over its first copy.

    Returns:
        (B, H, N), values 0..1, float32.

    Source: eq. 3; METHODS 2, DBIM 1-3.
    """
    key = key[:, :, : tokens.length].float()
    logits = torch.matmul(query.float() * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    content = logits.softmax(-1)[..., list(tokens.content)]
    evidence = (TOKEN_SHARPNESS * content).softmax(-1)
    counted = [float(column in tokens.counted) for column in tokens.content]
    return evidence @ evidence.new_tensor(counted)


def sharpen_over_space(branch: Tensor) -> Tensor:
    """500 softmax_u(10 m): a map (B, H, N) sharpened over its pixels u.

    Source: METHODS 2, DBIM 4. Its mean is 500 / N, so the mask of eq. 4 is softer on larger maps.
    """
    return SPACE_SCALE * (SPACE_SHARPNESS * branch).softmax(-1)


def concept_mask(concept_map: Tensor, auxiliary_map: Tensor, omega: float) -> Tensor:
    """M^c of [M^c, M^a] = softmax([sharp(m^c), omega sharp(m^a)]), (B, H, N); M^a = 1 - M^c.

    Source: eq. 4. omega multiplies a logit: 0 gives M^c = sigmoid(sharp(m^c)), it does not switch DCI off.
    """
    return torch.sigmoid(sharpen_over_space(concept_map) - omega * sharpen_over_space(auxiliary_map))


def integrate(concept: Tensor, auxiliary: Tensor, mask: Tensor) -> Tensor:
    """O = M^c O^c + M^a O^a, for attention outputs (B, H, N, d) before the output projection.

    Args:
        concept: O^c.
        auxiliary: O^a.
        mask: M^c, (B, H, N).

    Source: eq. 5.
    """
    return torch.lerp(auxiliary, concept, mask.to(concept.dtype).unsqueeze(-1))
