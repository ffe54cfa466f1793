"""Guidance that takes one mean over all rows, made to take one for each branch.

A sampling run with DCI has 2 B rows. Where a node computes one number of the whole batch, the auxiliary rows would
count in it and change the picture by more than DCI changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_MEANS = "comfy_extras.nodes_mahiro"
_PROJECTION = "comfy_extras.nodes_perpneg"


def guide_branches_apart(guider: Any, rows: int) -> None:
    """Change a guider's model options, which ComfyUI restores after the run, for branches of `rows` rows.

    Mahiro's mean and Perp-Neg Guider's projection are known here; both keep no state between steps.
    """
    options = guider.model_options
    functions = options.get("sampler_post_cfg_function", [])
    options["sampler_post_cfg_function"] = [
        _BranchByBranch(each, rows) if each.__module__ == _MEANS else each for each in functions]
    if type(guider).__module__ == _PROJECTION:
        options["sampler_pre_cfg_function"] = [*options.get("sampler_pre_cfg_function", []),
                                               _ProjectionByConcept(rows)]


@dataclass(frozen=True)
class _BranchByBranch:
    """A function of a step's estimates, called for each branch."""

    function: Callable[[dict[str, Any]], Tensor]
    rows: int

    def __call__(self, arguments: dict[str, Any]) -> Tensor:
        return torch.cat([self.function({name: self._branch(value, branch) for name, value in arguments.items()})
                          for branch in (slice(None, self.rows), slice(self.rows, None))])

    def _branch(self, value: Any, branch: slice) -> Any:
        has_both = isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == 2 * self.rows
        return value[branch] if has_both else value


@dataclass(frozen=True)
class _ProjectionByConcept:
    """Estimates of which Perp-Neg's one projection coefficient is the concept rows' own.

    Perp-Neg takes c = <n, p> / |p|^2 over all rows from the negative and the positive prediction n and p, both above
    the empty prompt's, and subtracts c p from n. With n of the auxiliary rows moved by (c^c - c^a) p^a, c over all rows
    is c^c, and what is left of n after the subtraction is in each branch what its own coefficient would leave.
    """

    rows: int

    def __call__(self, arguments: dict[str, Any]) -> list[Tensor]:
        positive, negative, empty = arguments["conds_out"]
        p, n = positive - empty, negative - empty
        concept, auxiliary = (_coefficient(n[branch], p[branch])
                              for branch in (slice(None, self.rows), slice(self.rows, None)))
        moved = negative.clone()
        moved[self.rows :] += (concept - auxiliary) * p[self.rows :]
        return [positive, moved, empty]


def _coefficient(n: Tensor, p: Tensor) -> Tensor:
    """<n, p> / |p|^2, or 0 where p is 0: auxiliary rows that stand still."""
    square = p.square().sum()
    return torch.where(square > 0, (n * p).sum() / square, torch.zeros_like(square))
