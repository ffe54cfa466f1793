"""What the trainer asks of a loaded model: rows of text conditioning, a denoiser, a text encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .schedule import NoiseSchedule

WordVectors = Mapping[str, Mapping[str, Tensor]]
"""For each learned word of the prompts and each text encoder ('l', 'g', ...) the vectors (m, D) that stand for it."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """One row of conditioning per latent row.

    Attributes:
        context: (N, T, D), what cross-attention (or joint attention) reads.
        pooled: (N, P), the text encoder's pooled output, or None where the model has none.
        concat: (N, K, h, w), what a network reads beside the noisy latents (an upscaler's low-res picture), or None.
    """

    context: Tensor
    pooled: Tensor | None = None
    concat: Tensor | None = None

    def detach(self) -> Conditioning:
        return Conditioning(self.context.detach(), None if self.pooled is None else self.pooled.detach())

    def copy_to(self, device: torch.device) -> Conditioning:
        """A copy without a graph on the device."""
        pooled = None if self.pooled is None else self.pooled.detach().clone().to(device)
        return Conditioning(self.context.detach().clone().to(device), pooled)


def concat_rows(rows: Sequence[Conditioning]) -> Conditioning:
    """Rows one below the other. Contexts of other lengths (prompts over 77 tokens) are repeated to the least
    common multiple, which leaves cross-attention over them unchanged, and no other network's (`may_repeat_text`)."""
    length = math.lcm(*(row.context.shape[1] for row in rows))
    contexts = [row.context.repeat(1, length // row.context.shape[1], 1) for row in rows]
    pooled = [row.pooled for row in rows if row.pooled is not None]
    return Conditioning(torch.cat(contexts), torch.cat(pooled) if len(pooled) == len(rows) else None)


class Denoiser(Protocol):
    """The loaded diffusion network, in its own prediction space.

    Attributes:
        module: the network that adapters are put into.
        schedule: its noise schedule and prediction.
        adapter_keys: for each module path, the stem of its keys in an adapter file that other programs read.
        device: where it computes.
        may_repeat_text: whether the text is read by cross-attention alone, for which a context that is repeated as a
            whole is the context itself.
    """

    module: nn.Module
    may_repeat_text: bool
    device: torch.device
    schedule: NoiseSchedule
    adapter_keys: Mapping[str, str]

    def __call__(self, noisy: Tensor, index: Tensor, conditioning: Conditioning) -> Tensor:
        """Raw prediction (N, C, h, w) for z_t (N, C, h, w) at levels `index` (N,) of the schedule."""
        ...


class TextEncoder(Protocol):
    """The loaded text encoder(s).

    Attributes:
        module: what adapters are put into when the text side trains.
        adapter_keys: as for `Denoiser`.
        widths: for each text encoder ('l', 'g', ...) the width D of its token vectors.
    """

    module: nn.Module
    adapter_keys: Mapping[str, str]
    widths: Mapping[str, int]

    def encode(self, prompts: Sequence[str], vectors: WordVectors | None = None) -> list[Conditioning]:
        """One single-row `Conditioning` per prompt, with a graph when gradients are enabled.

        Args:
            prompts: the texts.
            vectors: words that are read as these vectors instead of their own tokens.
        """
        ...

    def token_rows(self, text: str) -> dict[str, Tensor]:
        """For each text encoder the embedding rows (n, D) of a text's own tokens."""
        ...
