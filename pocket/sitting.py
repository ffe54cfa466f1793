"""One sitting of one stage: a clock, the loop, and a state that is left behind every few minutes, whatever happens."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from .learner import Learner
from .state import check_room, load_state, save_state

log = logging.getLogger(__name__)

SAVE_SECONDS: Final = 240.0
LOG_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 900.0
"""Looking costs as much as some hundred pictures on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One sitting of one stage."""

    path: Path
    """The state file."""
    minutes: float
    batch: int
    is_last: bool = False
    """Whether the learning rate goes down over the last 40 % of the sitting."""
    max_steps: int | None = None
    reuse: int = 1
    """Steps that share one batch of pictures, each with new noise: for a device that is faster than its host draws."""


def clock(plan: Plan) -> Iterator[float]:
    """How far the rate has gone down (0 to 1) at each step, until the sitting's time or steps are used up."""
    started, step = time.monotonic(), 0
    while plan.max_steps is None or step < plan.max_steps:
        used = (time.monotonic() - started) / (60 * plan.minutes) if plan.minutes else 1.0
        if used >= 1:
            return
        yield max(0.0, (used - 0.6) / 0.4) if plan.is_last else 0.0
        step += 1


def run(name: str, learner: Learner, plan: Plan, batches: Iterator[Any], loss_of: Callable[[Any, int], Tensor],
        look: Callable[[], str] = str) -> None:
    """The loop: batch, loss, step. Logs; saves every few minutes, at the end, and where it is told to stop."""
    started = logged = saved = looked = time.monotonic()
    first, losses, batch, is_stopped = learner.step, [], None, _watch_for_termination()
    for cooled in clock(plan):
        if batch is None or learner.step % plan.reuse == 0:
            batch = next(batches)
        loss = loss_of(batch, learner.step)
        learner.learn(loss, cooled)
        losses.append(loss.detach())
        now = time.monotonic()
        if now - logged > LOG_SECONDS:
            speed = (learner.step - first) * plan.batch / (now - started)
            log.info("%s step %d, loss %.4f, %.0f pictures/s", name, learner.step,
                     torch.stack(losses).mean().item(), speed)
            logged, losses = now, []
        if now - saved > SAVE_SECONDS and not is_stopped:
            keep(name, learner, plan.path)
            log.info("%s step %d saved", name, learner.step)
            saved = now
        if now - looked > LOOK_SECONDS:
            log.info("%s step %d: %s", name, learner.step, look())
            looked = time.monotonic()
        if is_stopped:
            break
    keep(name, learner, plan.path)
    log.info("%s step %d, saved; %s", name, learner.step, "stopped" if is_stopped else look())
    if is_stopped:
        raise SystemExit(0)


def _watch_for_termination() -> list[int]:
    """A list that gets the signal's number when the process is asked to end."""
    seen: list[int] = []
    with contextlib.suppress(ValueError):  # not the main thread, as in a test
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    return seen


def keep(name: str, learner: Learner, path: Path) -> None:
    """Settles the learner and writes its state."""
    learner.settle()
    save_state(path, **{name: learner.state()})


def take_up(name: str, learner: Learner, path: Path) -> Learner:
    """Loads the learner's state where there is one.

    Raises:
        SystemExit: there is none, and no room for it.
    """
    check_room(path, name, 4 * sum(p.numel() for p in learner.parameters) + 200_000)
    if name in (state := load_state(path)):
        learner.load(state[name])
    return learner
