"""What it means to learn: tensors that train, and that are put into the models and out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn


class Trainable(Protocol):
    """An adapter, all weights of a network, or token vectors; after `eject` the models are what they were."""

    def parameters(self) -> list[nn.Parameter]:
        """What trains, always in the same order."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of its tensors, by name."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Set every tensor that `state_dict` gives; `InputError` where names or shapes are another's."""
        ...

    def inject(self) -> None:
        """Put it in; nothing happens where it is in already."""
        ...

    def eject(self) -> None:
        """Take it out; nothing happens where it is out already."""
        ...

    def after_step(self) -> None:
        """What is done to its tensors after an optimiser step, such as keeping a norm."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Artifacts:
    """What a run has learned, under the names that other programs read.

    Attributes:
        adapter: tensors of an adapter file; empty where only token vectors trained.
        token_vectors: the vectors of each identifier.
        contexts: the vectors of words that only this run's captions know (ICO's contexts), for inspection.
    """

    adapter: dict[str, Tensor] = field(default_factory=dict)
    token_vectors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    contexts: dict[str, dict[str, Tensor]] = field(default_factory=dict)
