"""The card's clock and memory, as the measurements of `make gpu` read them; without a card the CPU's clock alone."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

WARM_UP = 3


def card() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def now() -> float:
    """Seconds, once the card has done what it was given."""
    import torch

    if card() == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def clock() -> Iterator[list[float]]:
    """The ends of all optimiser steps within the context; the card's high-water mark starts anew."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    release()
    if card() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ends: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: ends.append(now()))
    try:
        yield ends
    finally:
        handle.remove()


def milliseconds(ends: list[float]) -> float:
    return 1000 * statistics.median(end - start for start, end in list(zip(ends, ends[1:], strict=False))[WARM_UP - 1:])


def release() -> None:
    """Give back what nothing holds any more."""
    import torch

    gc.collect()
    if card() == "cuda":
        torch.cuda.empty_cache()


def held() -> float:
    """GB on the card that something holds."""
    import torch

    release()
    return torch.cuda.memory_allocated() / 2 ** 30 if card() == "cuda" else 0.0


def highest() -> float:
    """GB on the card at the highest since the clock was started."""
    import torch

    return torch.cuda.max_memory_allocated() / 2 ** 30 if card() == "cuda" else 0.0


def machine() -> str:
    import torch

    name = torch.cuda.get_device_name() if card() == "cuda" else "a CPU"
    return f"{name}, torch {torch.__version__}"
