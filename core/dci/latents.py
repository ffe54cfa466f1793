"""Where the auxiliary branch starts, and the noise prediction that it shares (METHODS 2, DCI)."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from .config import AuxiliaryNoise


def auxiliary_noise(noise: Tensor, seed: int, kind: AuxiliaryNoise = "independent") -> Tensor:
    """Standard normal noise (B, C, h, w) for the auxiliary latents of pictures that start from `noise`.

    Independent noise is the published choice; 'shared' is `noise` itself, so that both branches begin with one
    layout. Each row has its own generator, seeded with the run's seed and that row's noise, so that a picture does not
    depend on its place in the batch. A row without noise (a sampler that continues another one's work) gets none.
    """
    if kind == "shared":
        return noise
    return torch.cat([_row_noise(row, seed) for row in noise.split(1)])


def _row_noise(row: Tensor, seed: int) -> Tensor:
    if not row.any():
        return torch.zeros_like(row)
    key = seed.to_bytes(16, "little", signed=True) + row.float().cpu().contiguous().numpy().tobytes()
    digest = hashlib.blake2b(key, digest_size=8, person=b"dci auxiliary").digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    return torch.randn(row.shape, generator=generator).to(row)


def share_noise_prediction(denoised: Tensor, concept: Tensor, auxiliary: Tensor) -> Tensor:
    """D_u(z^c) + (z^a - z^c): the auxiliary latents' estimate under the concept latents' noise prediction.

    With x = x0 + sigma eps, equal eps means that the estimates differ as the latents do. Copying D_u(z^c)
    instead would pull the auxiliary layout onto the concept's.

    Args:
        denoised: D_u(z^c), (B, C, h, w).
        concept: z^c at the same noise level, (B, C, h, w).
        auxiliary: z^a, (B, C, h, w).

    Source: METHODS 2, DCI (epsilon is what is shared).
    """
    return denoised + (auxiliary - concept)
