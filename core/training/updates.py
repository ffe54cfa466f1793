"""How the gradients of a step become new weights: clip, optimiser, learning rate, moving averages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import require
from .config import TrainingConfig
from .optimizer import (
    choose_optimizer,
    evaluation_weights,
    make_lr_scheduler,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
)
from .trained_parameters import Trainables, parameter_groups


class Updates:
    """The optimiser of a run, with everything that goes on from step to step.

    Args:
        trainables: what trains.
        config: optimiser, rates, clipping, decay of the averages.
    """

    def __init__(self, trainables: Trainables, config: TrainingConfig):
        options = config.options
        self._trainables, self._max_norm = trainables, options.max_grad_norm or math.inf
        name = choose_optimizer(options, self.parameters()[0].device.type)
        self.optimizer = make_optimizer(name, parameter_groups(trainables, config), options.weight_decay)
        self.lr_scheduler = make_lr_scheduler(options, self.optimizer, config.steps)
        self._averages = Averages(self.parameters(), options.ema_decay) if options.ema_decay else None

    def parameters(self) -> list[nn.Parameter]:
        """Everything that trains, always in the same order."""
        return [parameter for trainable in self._trainables.values() for parameter in trainable.parameters()]

    @property
    def learning_rate(self) -> float:
        """The first group's rate of the next step."""
        return float(self.lr_scheduler.get_last_lr()[0])

    def clip(self) -> Tensor:
        """Clip all gradients together; their norm before, a scalar."""
        return nn.utils.clip_grad_norm_(self.parameters(), self._max_norm)

    def apply(self) -> None:
        """One optimiser step, and what follows it."""
        self.optimizer.step()
        self.lr_scheduler.step()
        for trainable in self._trainables.values():
            trainable.after_step()
        if self._averages is not None:
            self._averages.update(self.parameters())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context the parameters are their averages, where the options or the optimiser keep any."""
        if self._averages is None:
            with evaluation_weights(self.optimizer):
                yield
            return
        with self._averages.in_place_of(self.parameters()):
            yield

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors under `<name of a trainable>.`, `optimizer.` and `average.`, and values that JSON keeps exactly."""
        tensors = {f"{name}.{key}": tensor for name, trainable in self._trainables.items()
                   for key, tensor in trainable.state_dict().items()}
        optimizer, values = optimizer_state(self.optimizer)
        tensors |= {f"optimizer.{key}": tensor for key, tensor in optimizer.items()}
        if self._averages is not None:
            tensors |= {f"average.{key}": tensor for key, tensor in self._averages.tensors().items()}
        return tensors, {"optimizer": values, "lr_scheduler": self.lr_scheduler.state_dict()}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], step: int) -> None:
        """Continue after `step` from what `state` gave.

        Raises:
            InputError: the state is of other trainables.
        """
        for name, trainable in self._trainables.items():
            trainable.load_state_dict(_below(name, tensors))
        restore_optimizer(self.optimizer, _below("optimizer", tensors), meta["optimizer"])
        self._restore_rates(meta["lr_scheduler"])
        if self._averages is not None:
            self._averages.load(_below("average", tensors), step)

    def _restore_rates(self, saved: Mapping[str, Any]) -> None:
        groups = len(self.optimizer.param_groups)
        fits = len(saved["base_lrs"]) == len(saved["_last_lr"]) == groups
        require(fits, "lr_scheduler", f"{len(saved['base_lrs'])} learning rates", f"{groups}, one for each group",
                "Load what the same graph saved.")
        moved = {name: saved[name] for name in ("base_lrs", "_last_lr", "last_epoch", "_step_count")}
        self.lr_scheduler.load_state_dict({**self.lr_scheduler.state_dict(), **moved})


class Averages:
    """Exponential moving averages of parameters; diffusers' EMAModel keeps them and warms the decay up.

    Args:
        parameters: what is averaged.
        decay: of the running mean, below 1; reached over the first steps as (1 + n) / (10 + n).
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float):
        from diffusers.training_utils import EMAModel  # takes seconds, which ComfyUI's start would wait

        self._model = EMAModel(parameters, decay=decay)

    def update(self, parameters: list[nn.Parameter]) -> None:
        """Take the parameters of one more step in."""
        self._model.step(parameters)

    @contextmanager
    def in_place_of(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        """Within the context the parameters hold their averages."""
        self._model.store(parameters)
        self._model.copy_to(parameters)
        try:
            yield
        finally:
            self._model.restore(parameters)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the averages, by number."""
        return {str(number): average.detach().clone() for number, average in enumerate(self._model.shadow_params)}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Set what `tensors` gave after so many steps."""
        self._model.optimization_step = steps
        for number, average in enumerate(self._model.shadow_params):
            average.copy_(tensors[str(number)])


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, without it."""
    start = f"{prefix}."
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
