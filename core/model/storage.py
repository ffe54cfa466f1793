"""How a loaded network's layers are stored and what of them has to be on the device, for estimates of memory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch


class Placement(StrEnum):
    """Where the weights of a network are while it trains."""

    RESIDENT = "resident"
    """All of them on the device."""
    STREAMED = "streamed"
    """What does not fit is in the computer's memory, and comes for each layer in both passes."""


@dataclass(frozen=True, kw_only=True)
class LayerStorage:
    """One module's own parameters.

    Attributes:
        path: the module's.
        elements: numbers that they stand for.
        stored_bytes: of all its parameters as they are stored, scales included.
        cast_bytes: of one copy in the compute dtype, as it is made to be multiplied; 0 where none is made.
        is_eight_bit: stored in 8 bits or less, or packed.
        is_frozen: nothing of its cast is kept for the backward pass, where it is made again, in each placement.
        can_stream: whether it may be in the computer's memory while the network trains.
    """

    path: str
    elements: int
    stored_bytes: int
    cast_bytes: int
    is_eight_bit: bool
    is_frozen: bool
    can_stream: bool


@dataclass(frozen=True, kw_only=True)
class ModelStorage:
    """All parameters of a network.

    Attributes:
        layers: each module that has parameters of its own.
        compute_dtype: what they are multiplied in without autocast.
    """

    layers: tuple[LayerStorage, ...]
    compute_dtype: torch.dtype

    @property
    def stored_bytes(self) -> int:
        """Of the whole network, as it lies in memory."""
        return sum(layer.stored_bytes for layer in self.layers)

    @property
    def streamable_bytes(self) -> int:
        """Of layers that need not be on the device."""
        return sum(layer.stored_bytes for layer in self.layers if layer.can_stream)

    @property
    def resident_bytes(self) -> int:
        """Of what has to be on the device in each placement."""
        return self.stored_bytes - self.streamable_bytes

    @property
    def largest_cast_bytes(self) -> int:
        """Of the largest cast: one is on the device at a time."""
        return max((layer.cast_bytes for layer in self.layers), default=0)

    @property
    def largest_streamed_bytes(self) -> int:
        """Of the largest layer that may come for each pass, as it is stored: as much again for each stream."""
        return max((layer.stored_bytes for layer in self.layers if layer.can_stream), default=0)

    def kept_copies_bytes(self, placement: Placement) -> int:
        """Of casts that a forward pass keeps for its backward pass (less with checkpointing: those of one block)."""
        return sum(layer.cast_bytes for layer in self.layers
                   if not (layer.is_frozen or placement == Placement.STREAMED and layer.can_stream))

    @property
    def is_eight_bit(self) -> bool:
        """Whether some of it is stored in 8 bits or less, or packed."""
        return any(layer.is_eight_bit for layer in self.layers)
