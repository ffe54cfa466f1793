"""What the trainer asks of a loaded model: rows of conditioning, a denoiser, a text encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .schedule import NoiseSchedule

WordVectors = Mapping[str, Mapping[str, Tensor]]
"""For each learned word of the prompts and each text encoder ('l', 'g', ...) the vectors (m, D) that stand for it."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the network reads for one latent row.

    Attributes:
        context: (1, T, D), what cross-attention (or joint attention) reads.
        pooled: (1, P), the text encoder's pooled output, or None where the model has none.
        concat: (1, K, h, w), what a network reads beside the noisy latents (an upscaler's low-res picture), or None.
        extra: everything else that goes with the row, under ComfyUI's own names: attention_mask, t5xxl_ids, guidance,
            reference_latents, ... Tensors, lists of them, or plain values.
    """

    context: Tensor
    pooled: Tensor | None = None
    concat: Tensor | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def detach(self) -> Conditioning:
        return self._of_tensors(lambda tensor: tensor.detach())

    def copy_to(self, device: torch.device) -> Conditioning:
        """A copy without a graph on the device."""
        return self._of_tensors(lambda tensor: tensor.detach().clone().to(device))

    def beside(self, conditions: Mapping[str, Any]) -> Conditioning:
        """The same row with more that goes with it, as `extra`."""
        return replace(self, extra={**self.extra, **conditions})

    def _of_tensors(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return Conditioning(change(self.context), map_tensors(change, self.pooled), map_tensors(change, self.concat),
                            map_tensors(change, self.extra))


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A value of lists and mappings whose tensors are changed, and nothing else of it."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(change, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(change, item) for item in value)
    return value


def concat_rows(rows: Sequence[Conditioning]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Contexts (N, L, D), pooled outputs and concats, each None unless all rows have one, for a network that reads text
    by cross-attention alone: there a context that is repeated as a whole is the context itself, so that those of other
    lengths (prompts over 77 tokens) are repeated to the least common multiple L."""
    length = math.lcm(*(row.context.shape[1] for row in rows))
    contexts = [row.context.repeat(1, length // row.context.shape[1], 1) for row in rows]
    return torch.cat(contexts), _stacked([row.pooled for row in rows]), _stacked([row.concat for row in rows])


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) == len(parts) else None


class Denoiser(Protocol):
    """The loaded diffusion network, in its own prediction space.

    Attributes:
        module: the network that adapters are put into.
        schedule: its noise schedule and prediction.
        adapter_keys: for each module path, the stem of its keys in an adapter file that other programs read.
        device: where it computes.
    """

    module: nn.Module
    device: torch.device
    schedule: NoiseSchedule
    adapter_keys: Mapping[str, str]

    def __call__(self, noisy: Tensor, index: Tensor, rows: Sequence[Conditioning]) -> Tensor:
        """Raw prediction (N, C, h, w) for z_t (N, C, h, w) at levels `index` (N,) of the schedule.

        Every row is what it is alone, in as few forwards of the network as their conditioning allows.
        """
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

    def encode(self, prompts: Sequence[str], vectors: WordVectors | None = None,
               pictures: Sequence[Sequence[Tensor]] = ()) -> list[Conditioning]:
        """One row per prompt, with a graph when gradients are enabled.

        Args:
            prompts: the texts.
            vectors: words that are read as these vectors instead of their own tokens.
            pictures: for each prompt those (H, W, 3) that the encoder looks at with it; empty for none at all.
        """
        ...

    def token_rows(self, text: str) -> dict[str, Tensor]:
        """For each text encoder the embedding rows (n, D) of a text's own tokens."""
        ...
