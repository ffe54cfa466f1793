"""Optimisers and learning-rate schedules by name, and an optimiser's state as plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD,
}


def make_optimizer(name: str, groups: Sequence[Mapping[str, Any]]) -> Optimizer:
    """torch's optimiser with its own defaults over parameter groups that carry their rates."""
    return OPTIMIZERS[name]([dict(group) for group in groups])


def make_lr_scheduler(name: str, optimizer: Optimizer, warmup_steps: int, steps: int) -> LambdaLR:
    """diffusers' schedule: a factor on every group's own rate; 0 once the group's `stop_at` of the run is reached."""
    from diffusers.optimization import get_scheduler  # takes seconds, which ComfyUI's start would wait

    stops = [group.get("stop_at", 1.0) for group in optimizer.param_groups]
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps)
    if all(stop == 1.0 for stop in stops):
        return scheduler
    factors = [_until(factor, stop * steps) for factor, stop in zip(scheduler.lr_lambdas, stops, strict=True)]
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr")
    return LambdaLR(optimizer, factors)


def _until(factor: Callable[[int], float], last: float) -> Callable[[int], float]:
    return lambda step: factor(step) if step < last else 0.0


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The state as `<parameter>.<entry>` tensors, and the parameter groups as plain values."""
    state = optimizer.state_dict()
    tensors = {f"{index}.{name}": value.detach().clone() for index, entries in state["state"].items()
               for name, value in entries.items() if isinstance(value, Tensor)}
    return tensors, state["param_groups"]


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor],
                      groups: Sequence[Mapping[str, Any]]) -> None:
    """Set what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": [dict(group) for group in groups]})
