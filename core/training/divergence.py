"""Learning that went wrong without a NaN: a loss that stays above its start, and above that of no prediction at all;
layers that were changed by more than they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch

from ..data.batch import Rows
from ..model.schedule import NoiseSchedule
from ..objectives.base import Objective
from .loss import compare, loss_terms

WINDOW = 10
"""Losses of which the median is looked at: single steps jump with their noise level."""
RISE = 2.0
"""Times the first loss, for networks that predict no better than zeros before they learn."""
LARGEST_CHANGE = 1.0
"""||dW|| / ||W|| of the median layer; runs that went well change their layers by some hundredths."""
DRAWS = 16
"""Micro-steps over which the loss of zeros is averaged."""


@torch.no_grad()
def loss_of_zeros(objectives: Sequence[Objective], schedule: NoiseSchedule,
                  draw_rows: Callable[[int], Mapping[str, Rows]]) -> float:
    """The loss of a network that puts out zeros, with every weight and term: 1 for eq. 1 on noise alone. A network
    that knows anything is below it.

    Args:
        draw_rows: the rows of a micro-step, by block.
    """
    losses = []
    for micro_step in range(DRAWS):
        blocks = draw_rows(micro_step)
        targets = {name: schedule.target(rows.latents, rows.noise, rows.index) for name, rows in blocks.items()}
        zeros = {name: torch.zeros_like(target) for name, target in targets.items()}
        terms = loss_terms(objectives, compare(objectives, schedule, blocks, zeros, targets))
        losses.append(torch.stack(list(terms.values())).sum())
    return float(torch.stack(losses).mean())


def is_diverged(losses: Sequence[float], zeros: float) -> bool:
    """Whether the median of the last ten losses is above that of a network that puts out zeros, and above twice the
    first loss, which is the untrained network's.

    Args:
        losses: of every step so far.
        zeros: what `loss_of_zeros` gives.
    """
    return len(losses) >= WINDOW and median(losses[-WINDOW:]) > max(zeros, RISE * losses[0])


def divergence(losses: Sequence[float], zeros: float, learning_rate: float) -> str | None:
    """What to tell the user of a run with these losses, of the first step at which it was diverged; None where it never
    was."""
    for step in range(WINDOW, len(losses) + 1):
        level = median(losses[step - WINDOW:step])
        if level > max(zeros, RISE * losses[0]):
            return (f"by step {step} the loss had risen to {level:.3g} from {losses[0]:.3g} at the first, above the "
                    f"{zeros:.3g} of a network that predicts nothing: what is learned is probably destroyed. Lower the "
                    f"learning rate ({learning_rate:g}), for example to a tenth of it")
    return None


def explosion(relative_change: float, learning_rate: float) -> str | None:
    """What to tell the user of a run whose median layer changed by ||dW|| / ||W||; None where that is usual."""
    if relative_change <= LARGEST_CHANGE:
        return None
    return (f"half of the trained layers were changed by {relative_change:.2g} times their own size or more: little is "
            f"left of the base model. Lower the learning rate ({learning_rate:g}), for example to a tenth of it")
