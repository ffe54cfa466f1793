"""DBIM in one attention layer, whatever its kind: what every `MixingSites` calls. The arithmetic is core's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ....core.dci.config import DCIConfig
from ....core.dci.dbim import (
    SPACE_SCALE,
    branch_map,
    concept_mask,
    integrate,
    integrate_without_masks,
    resolution_scale,
)
from ....core.errors import require
from .dual_prompt import DualPrompt

Pairs = Mapping[tuple[int, Any], DualPrompt]
"""The entries of a network call that both branches see, by list index and uuid."""


class MaskRecorder(Protocol):
    """Whoever wants to see the masks."""

    def record(self, *, layer: str, sigma: float, concept_map: Tensor, auxiliary_map: Tensor, mask: Tensor) -> None:
        """Take m^c, m^a and M^c, each (B, H, N), of one layer in one network call."""
        ...


class MixingSites(Protocol):
    """The attention layers of one kind of network, and how they are hooked."""

    @property
    def names(self) -> Mapping[str, int]:
        """For each layer, as people are told of it, its scale, in the order in which the network runs them.

        1 where a layer works at the latents' own size, 2 at half of it, and so on.
        """
        ...

    def install(self, options: dict[str, Any], run: BranchMixing, pairs: Pairs) -> dict[str, Any]:
        """A copy of the model options in which the layers mix, around what other nodes put there."""
        ...


@dataclass(frozen=True)
class BranchMixing:
    """What the layers of one network call need: 2 x `rows` latents at one noise level, concept rows first.

    Attributes:
        rows: B, pictures.
        sigma: the noise level.
        omega: the injection strength at it.
        layers: name and scale of the layers that mix.
        config: what the user chose.
        recorder: sees every mask, if there is one.
        memory: what the sites remember of this sampling run from one network call to the next.
    """

    rows: int
    sigma: float
    omega: float
    layers: Mapping[str, int]
    config: DCIConfig
    recorder: MaskRecorder | None = None
    memory: dict[Any, Any] = field(default_factory=dict)

    def spans(self, options: Mapping[str, Any], pairs: Pairs) -> Iterator[tuple[slice, DualPrompt]]:
        """The 2 B rows of every paired entry in a call, which holds blocks of B rows (`BranchRows`).

        Args:
            options: the call's transformer options.
            pairs: which entries are paired: they have two blocks, one after the other.
        """
        blocks = enumerate(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        for number, entry in blocks:
            if entry in pairs:
                next(blocks)
                yield slice(self.rows * number, self.rows * (number + 2)), pairs[entry]

    def mix(self, layer: str, outputs: Tensor, query: Tensor, key: Tensor, prompt: DualPrompt,
            bias: Tensor | None = None) -> Tensor:
        """The concept rows' attention outputs (B, H, N, d) after DBIM, for one entry's rows.

        Args:
            layer: the name of the site.
            outputs: attention outputs of the N pixels before the output projection, (2 B, H, N, d).
            query: the pixels' queries, (2 B, H, N, d).
            key: the text tokens' keys, (2 B, H, T, d).
            prompt: the tokens of both branches.
            bias: what an attention mask adds to the logits, (1 or 2 B, 1, 1, T), or None.
        """
        concept, auxiliary = slice(None, self.rows), slice(self.rows, None)
        if self.config.aggregation != "masks":
            return integrate_without_masks(outputs[concept], outputs[auxiliary], self.config.aggregation)
        both = bias if bias is None or len(bias) > 1 else bias.expand(2 * self.rows, -1, -1, -1)
        concept_map = branch_map(query[concept], key[concept], prompt.concept, both if both is None else both[concept])
        auxiliary_map = branch_map(query[auxiliary], key[auxiliary], prompt.auxiliary,
                                   both if both is None else both[auxiliary])
        mask = concept_mask(concept_map, auxiliary_map, self.omega, self._space_scale(layer, query.shape[2]))
        if self.recorder is not None:
            self.recorder.record(layer=layer, sigma=self.sigma, concept_map=concept_map, auxiliary_map=auxiliary_map,
                                 mask=mask)
        return integrate(outputs[concept], outputs[auxiliary], mask)

    def _space_scale(self, layer: str, pixels: int) -> float:
        by_resolution = self.config.is_sharpened_by_resolution
        return resolution_scale(pixels, self.layers[layer]) if by_resolution else SPACE_SCALE


def mixing_layers(names: Mapping[str, int], config: DCIConfig) -> dict[str, int]:
    """Name and scale of the layers that mix.

    Raises:
        InputError: where the network has no layer of the wanted scales.
    """
    kept = {name: scale for name, scale in names.items() if not config.scales or scale in config.scales}
    require(bool(kept), "scales", config.scales, f"scales that the model has: {sorted(set(names.values()))}",
            "Leave scales empty to mix in all layers.")
    return kept if config.layers == "all" else dict([list(kept.items())[-1]])
