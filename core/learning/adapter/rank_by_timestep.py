"""T-LoRA (Soboleva et al., AAAI 2026, arXiv:2507.05964): the more noise there is, the fewer of a LoRA's ranks act.

At high noise a network learns poses and backgrounds of few photos by heart; there the adapter is kept small. It is the
paper's "vanilla" form: without its orthogonal start (Ortho-LoRA), which needs a third matrix and the start's product
taken out again, and so twice the rank in files that other programs read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...errors import require
from ...model.schedule import NoiseSchedule
from .base_weight import NAME

ROUNDING = 1e-6
"""A share that is a whole number of ranks but for float's rounding counts as that."""
LARGEST_DISTANCE = 0.01
"""Of a timestep from the schedule's, as a share of the largest: what half precision rounds away."""


def remaining_time(schedule: NoiseSchedule, index: Tensor) -> Tensor:
    """(T - t) / T at levels `index` (N,) of the schedule, in float64: 1 at no noise, 0 at the most.

    t is the level's number, and t / T = sigma for flow, whose schedules are shifted in the number.
    """
    if schedule.prediction == "flow":
        return 1 - schedule.sigmas.to(index.device)[index].double()
    return (len(schedule) - index.double()) / len(schedule)


def active_ranks(rank: int, least: int, remaining: Tensor) -> Tensor:
    """r(t) = floor((r - r_min) (T - t) / T) + r_min, (N,) whole numbers.

    Args:
        rank: r, a layer's.
        least: r_min; a layer of a smaller rank has its own.
        remaining: (T - t) / T, (N,).

    Source: arXiv:2507.05964, 3.2; the first r(t) ranks act, as in the authors' code.
    """
    low = min(least, rank)
    return ((rank - low) * remaining.double() + ROUNDING).floor().long() + low


class RankByTimestep:
    """Masks the rank dimension of a network's LoRA layers by the timestep of every row. A part of a run of which
    nothing trains; it is made out.

    Args:
        module: the network, which is called with noisy rows (N, ...) and their timesteps (N,).
        layers: its LoRA layers, of peft.
        least: r_min.
        schedule: what the timesteps are told by.
    """

    def __init__(self, module: nn.Module, layers: Iterable[nn.Module], least: int, schedule: NoiseSchedule):
        self.module, self._least, self._schedule = module, least, schedule
        self._downs: list[nn.Module] = [layer.lora_A[NAME] for layer in layers]  # type: ignore[index, misc]
        self._handles: list[RemovableHandle] = []
        self._remaining: Tensor | None = None
        self._is_checked = False

    def parameters(self) -> list[nn.Parameter]:
        return []

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to set."""

    def after_step(self) -> None:
        """Nothing."""

    def inject(self) -> None:
        """Hooks on the network and its LoRA layers; nothing happens where they are there already."""
        if not self._handles:
            self._handles = [self.module.register_forward_pre_hook(self._start, with_kwargs=True),
                             self.module.register_forward_hook(self._end, always_call=True),
                             *(down.register_forward_hook(self._mask) for down in self._downs)]

    def eject(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def recomputation(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a checkpointed block's forward and of its recomputation, which is at the same timesteps."""
        return nullcontext(), self._at(self._remaining)

    @contextmanager
    def _at(self, remaining: Tensor | None) -> Iterator[None]:
        before, self._remaining = self._remaining, remaining
        try:
            yield
        finally:
            self._remaining = before

    def _start(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """(T - t) / T of the rows that the network is called with."""
        given = arguments[1] if len(arguments) > 1 else named["timesteps"]
        timesteps = given.reshape(len(given), -1)[:, :1].double()  # some families tell them by frame
        table = self._schedule.timesteps.to(timesteps.device, torch.float64)
        distance, index = (table - timesteps).abs().min(dim=1)
        self._check(distance, table)
        self._remaining = remaining_time(self._schedule, index)

    def _check(self, distance: Tensor, table: Tensor) -> None:
        """The network is told what the schedule says; looked at once, for it makes a GPU wait."""
        if not self._is_checked:
            require(float(distance.max()) <= LARGEST_DISTANCE * float(table.abs().max()), "min_rank",
                    f"{type(self.module).__name__}, which is told other timesteps than its schedule's",
                    "a network whose noise level can be read off its input", "Set min_rank to 0.")
            self._is_checked = True

    def _end(self, *_: Any) -> None:
        self._remaining = None

    def _mask(self, down: nn.Module, _: Any, hidden: Tensor) -> Tensor:
        """The down projection's (N, ..., r), or of a convolution (N, r, h, w), with zeros where no rank acts."""
        if self._remaining is None:
            raise RuntimeError("rank by timestep: got a layer's forward outside of the network's own")
        axis = 1 if isinstance(down, nn.Conv2d) else hidden.ndim - 1
        rank, rows = hidden.shape[axis], len(self._remaining)
        require(len(hidden) == rows, "min_rank", f"a layer that sees {len(hidden)} rows where {rows} are denoised",
                "layers that see every row by itself", "Use other targets, or set min_rank to 0.")
        active = active_ranks(rank, self._least, self._remaining)
        mask = torch.arange(rank, device=active.device) < active[:, None]
        shape = [1] * hidden.ndim
        shape[0], shape[axis] = rows, rank
        return hidden * mask.view(shape).to(hidden)
