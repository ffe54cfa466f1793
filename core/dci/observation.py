"""What the two branches looked at: running means of DCI's maps and masks while a picture is sampled (fig. 11).

Means, not every map: one per layer over all steps, and one per scale and noise level over all layers, all of them
averaged over heads and kept on the CPU, so that watching costs a few megabytes whatever the number of steps.
Source: Jin et al., ECCV 2024, fig. 11 (masks drawn at each scale); METHODS 2.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import require

Kind = Literal["concept", "auxiliary", "mask", "auxiliary mask"]
"""m^c, the evidence for 'V noun'; m^a, that for all but the auxiliary noun; M^c of eq. 4; M^a = 1 - M^c (fig. 11)."""
KINDS: tuple[Kind, ...] = ("concept", "auxiliary", "mask", "auxiliary mask")
Grid = tuple[int, int]
"""Height and width of a layer in its own pixels."""
Place = TypeVar("Place", bound=Hashable)
MOST_HALVINGS = 8


@dataclass
class _Mean:
    """A running mean of (3, B, N): the first three kinds, the pictures, the pixels."""

    total: Tensor
    count: int = 1

    def add(self, maps: Tensor) -> None:
        self.total += maps
        self.count += 1

    @property
    def value(self) -> Tensor:
        return self.total / self.count


class MaskRecorder:
    """Collects DBIM's maps of one sampling run; `record` is called for every layer at every step in the window.

    Args:
        height: of the latents.
        width: of the latents; a layer's N pixels are the latents' after some halvings, rounded up.
    """

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width
        self._layers: dict[str, _Mean] = {}
        self._steps: dict[tuple[Grid, float], _Mean] = {}
        self._grids: dict[str, Grid] = {}

    def record(self, *, layer: str, sigma: float, concept_map: Tensor, auxiliary_map: Tensor, mask: Tensor) -> None:
        """Take in one layer's maps (B, H, N) at one noise level.

        Raises:
            InputError: for a layer whose N pixels are no halving of the picture, such as one that saw only a region.
        """
        maps = torch.stack([each.detach().float().mean(1) for each in (concept_map, auxiliary_map, mask)]).cpu()
        grid = grid_of(maps.shape[-1], self.height, self.width)
        self._grids[layer] = grid
        _add(self._layers, layer, maps)
        _add(self._steps, (grid, sigma), maps)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers in the order in which the network runs them."""
        return tuple(self._layers)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The scales, coarse to fine."""
        return tuple(sorted(set(self._grids.values())))

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels, from noise to picture."""
        return tuple(sorted({sigma for _, sigma in self._steps}, reverse=True))

    @property
    def pictures(self) -> int:
        """B."""
        return next(iter(self._layers.values())).total.shape[1] if self._layers else 0

    def grid(self, layer: str) -> Grid:
        """The scale of a layer."""
        return self._grids[layer]

    def at_layer(self, layer: str, kind: Kind) -> Tensor:
        """Mean over steps of one layer, (B, h, w)."""
        return _picture(self._layers[layer].value, kind, self._grids[layer])

    def at_step(self, grid: Grid, sigma: float, kind: Kind) -> Tensor | None:
        """Mean over the layers of one scale at one noise level, (B, h, w); None where the scale was not seen there."""
        found = self._steps.get((grid, sigma))
        return None if found is None else _picture(found.value, kind, grid)

    def at_scale(self, grid: Grid, kind: Kind) -> Tensor:
        """Mean over the layers of one scale and all steps, (B, h, w)."""
        layers = [self.at_layer(layer, kind) for layer in self.layers if self._grids[layer] == grid]
        return torch.stack(layers).mean(0)

    def mean(self, kind: Kind, height: int, width: int, grids: Iterable[Grid] | None = None) -> Tensor:
        """Mean over scales, each with the same weight, at a size of its own: (B, height, width)."""
        chosen = [self.at_scale(grid, kind) for grid in grids or self.grids]
        return torch.stack([resize(each, height, width) for each in chosen]).mean(0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was mixed: no step lay in the window."""
        return not self._layers


def grid_of(pixels: int, height: int, width: int) -> Grid:
    """The (h, w) of a layer of `pixels` pixels: the latents' size halved 0, 1, 2, ... times, rounded up each time.

    Raises:
        InputError: where no halving has so many pixels.
    """
    for _ in range(MOST_HALVINGS):
        if height * width == pixels:
            return height, width
        height, width = -(-height // 2), -(-width // 2)
    require(False, "positive", f"a layer of {pixels} pixels", "layers that see the whole picture",
            "Leave out areas and masks (Set Area) between the DCI prompt and the sampling.")
    raise AssertionError


def resize(maps: Tensor, height: int, width: int) -> Tensor:
    """(B, h, w) to (B, height, width), bilinear."""
    return functional.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def stretch(maps: Tensor) -> Tensor:
    """Every picture of (B, h, w) stretched to 0..1; a constant one becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


def _add(means: dict[Place, _Mean], key: Place, maps: Tensor) -> None:
    if key in means:
        means[key].add(maps)
    else:
        means[key] = _Mean(maps.clone())


def _picture(maps: Tensor, kind: Kind, grid: Grid) -> Tensor:
    chosen = 1 - maps[KINDS.index("mask")] if kind == "auxiliary mask" else maps[KINDS.index(kind)]
    picture: Tensor = chosen.unflatten(-1, grid)
    return picture
