"""Optimisers and learning-rate schedules by name, and an optimiser's whole state as tensors and plain values."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import InputError, require
from ..store.metadata import is_number
from .config import SCHEDULES_WITHOUT_END, TrainingConfig, TrainingOptions

AUTO, ADAMW_8BIT, ADAFACTOR, PRODIGY = "auto", "adamw8bit", "adafactor", "prodigy"
SCHEDULE_FREE = "adamw_schedulefree"
PACKAGES = {ADAMW_8BIT: "bitsandbytes", PRODIGY: "prodigyopt", SCHEDULE_FREE: "schedulefree"}
"""Optional packages, by the optimiser that needs them."""

STATE_BYTES = {"adamw": 8, "adam": 8, "sgd": 0, ADAFACTOR: 0, ADAMW_8BIT: 2, PRODIGY: 16, SCHEDULE_FREE: 8}
"""What an optimiser keeps, in bytes per trained parameter; Adafactor keeps a row and a column of every matrix."""


def choose_optimizer(options: TrainingOptions, device: str) -> str:
    """The optimiser's name; "auto" is AdamW, and for full weights 8-bit AdamW where bitsandbytes and CUDA are there,
    Adafactor elsewhere: their state is a quarter of AdamW's and next to nothing."""
    if options.optimizer != AUTO:
        return options.optimizer
    if not options.trains_full_weights:
        return "adamw"
    return ADAMW_8BIT if device == "cuda" and is_installed(ADAMW_8BIT) else ADAFACTOR


def check_optimizer(config: TrainingConfig, device: str) -> None:
    """Refuse what cannot run here, before anything is loaded.

    Raises:
        InputError: a package is missing or does not run on this device, a rate below the end of its schedule, what
            schedule-free cannot be combined with.
    """
    options = config.options
    name = choose_optimizer(options, device)
    if name in PACKAGES:
        package = PACKAGES[name]
        require(is_installed(name), "optimizer", f"{name}, and {package} is not installed", f"the package {package}",
                f"Install it in ComfyUI's Python (pip install {package}), or choose adamw or adafactor.")
    if name == ADAMW_8BIT:
        _check_8_bits(device)
    if name == SCHEDULE_FREE:
        _check_schedule_free(config)
    require(options.lr_schedule != "polynomial" or config.learning_rate > POLYNOMIAL_END, "learning_rate",
            config.learning_rate, f"above {POLYNOMIAL_END}, where the polynomial schedule ends",
            "Raise it, or choose linear.")


def _check_8_bits(device: str) -> None:
    """Raise `InputError` unless bitsandbytes takes a step on this kind of device: not every version of it has every
    one."""
    try:
        weights = torch.nn.Parameter(torch.zeros(SMALL_ENTRY + 1, device=device))
        weights.grad = torch.ones_like(weights)
        make_optimizer(ADAMW_8BIT, [{"params": [weights], "lr": 1e-3}]).step()
    except Exception as reason:  # whatever another package says of a device that it does not know
        raise InputError("optimizer", f"{ADAMW_8BIT} on {device}, where this bitsandbytes cannot take a step "
                         f"({reason})", "a GPU or a version of bitsandbytes that can",
                         "Choose adafactor, whose state is small everywhere, or update bitsandbytes in ComfyUI's "
                         "Python (pip install -U bitsandbytes).") from reason


def _check_schedule_free(config: TrainingConfig) -> None:
    """Raise `InputError` for what would work against the average that a schedule-free optimiser keeps by itself."""
    options = config.options
    require(options.lr_schedule in SCHEDULES_WITHOUT_END, "lr_schedule", f"{options.lr_schedule} with {SCHEDULE_FREE}",
            " or ".join(SCHEDULES_WITHOUT_END), "Choose one of them: the average stands in for a falling rate.")
    require(options.ema_decay == 0, "ema_decay", f"{options.ema_decay} with {SCHEDULE_FREE}", "0",
            "Use 0: what is handed on is an average already.")
    require(not config.learns_vectors, "optimizer", f"{SCHEDULE_FREE} with learned token vectors",
            "an optimiser whose weights may be set between two steps", "Choose adamw, or leave the token vectors out.")


def is_installed(name: str) -> bool:
    """Whether an optimiser's optional package can be imported."""
    return importlib.util.find_spec(PACKAGES[name]) is not None


def make_optimizer(name: str, groups: Sequence[Mapping[str, Any]], weight_decay: float = 0.0) -> Optimizer:
    """An optimiser with its own defaults over parameter groups that carry their rates.

    Prodigy (arXiv:2306.06101) finds the rate itself, one for all groups: theirs become the factor 1. Schedule-free
    AdamW (arXiv:2405.15682) trains at points between its iterates and their average: see `evaluation_weights`.
    """
    own = [dict(group) for group in groups]
    if name == PRODIGY:
        own = [{**group, "lr": 1.0} for group in own]
    made = _FACTORIES[name]()(own, lr=own[0]["lr"], weight_decay=weight_decay)
    if name == SCHEDULE_FREE:
        made.train()  # type: ignore[attr-defined]
    return made


@contextmanager
def evaluation_weights(optimizer: Optimizer) -> Iterator[None]:
    """Within the context the parameters are what a schedule-free optimiser hands on, its average; nothing happens with
    any other. Afterwards they are the very bits they were: the package's own way back rounds."""
    if not hasattr(optimizer, "eval"):
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        with torch.no_grad():
            for parameter, own in zip(parameters, before, strict=True):
                parameter.copy_(own)


def _adafactor() -> Callable[..., Optimizer]:
    """Adafactor (arXiv:1804.04235) with the given rate as it is, as AdamW takes it; torch's own multiplies it by every
    weight's size, so that a rate would mean something else here."""
    from transformers.optimization import Adafactor

    return partial(Adafactor, scale_parameter=False, relative_step=False, warmup_init=False)


def _adamw_8bit() -> Callable[..., Optimizer]:
    """Of bitsandbytes rather than torchao, which compiles a kernel for each shape that a weight has."""
    optimizer: Callable[..., Optimizer] = importlib.import_module("bitsandbytes").optim.AdamW8bit
    return optimizer


def _prodigy() -> Callable[..., Optimizer]:
    prodigy = importlib.import_module("prodigyopt").Prodigy
    return partial(prodigy, use_bias_correction=True, safeguard_warmup=True)


def _schedule_free() -> Callable[..., Optimizer]:
    optimizer: Callable[..., Optimizer] = importlib.import_module("schedulefree").AdamWScheduleFree
    return optimizer


_FACTORIES: dict[str, Callable[[], Callable[..., Optimizer]]] = {
    "adamw": lambda: torch.optim.AdamW, "adam": lambda: torch.optim.Adam, "sgd": lambda: torch.optim.SGD,
    ADAFACTOR: _adafactor, ADAMW_8BIT: _adamw_8bit, PRODIGY: _prodigy,
    SCHEDULE_FREE: _schedule_free,
}

# Schedules

POLYNOMIAL_END = 1e-7  # diffusers' default


def make_lr_scheduler(options: TrainingOptions, optimizer: Optimizer, steps: int) -> LambdaLR:
    """diffusers' schedule: a factor on every group's own rate; 0 once the group's `stop_at` of the run is reached."""
    from diffusers.optimization import get_scheduler  # takes seconds, which ComfyUI's start would wait

    stops = [group.get("stop_at", 1.0) for group in optimizer.param_groups]
    scheduler: LambdaLR = get_scheduler(
        options.lr_schedule, optimizer, num_warmup_steps=options.warmup_steps, num_training_steps=steps,
        num_cycles=options.lr_cycles, power=options.lr_power)
    if all(stop == 1.0 for stop in stops):
        return scheduler
    factors = [_until(factor, stop * steps) for factor, stop in zip(scheduler.lr_lambdas, stops, strict=True)]
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr")
    return LambdaLR(optimizer, factors)


def _until(factor: Callable[[int], float], last: float) -> Callable[[int], float]:
    return lambda step: factor(step) if step < last else 0.0


# State

Values = dict[str, Any]
LIKE_THE_PARAMETER = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "z")
MOVING = ("lr", "initial_lr", "d", "d0", "d_max", "d_numerator", "d_denom", "d_hat", "k", "weight_sum", "lr_max")
"""What changes in a group from step to step, here, in Prodigy and schedule-free; all else are settings, which the
config says."""
SMALL_ENTRY = 4096
"""Elements that an optimiser may keep of any parameter: counters, the map of an 8-bit format."""


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], Values]:
    """The state as `<parameter>.<entry>` tensors, and all else as values that JSON keeps exactly.

    Entries of the groups that JSON cannot hold (Prodigy's infinite growth rate) are settings, which any optimiser of
    the same name has. bitsandbytes gives some of a parameter's entries in a dict of their own, and takes them without.
    """
    state = optimizer.state_dict()
    entries = {f"{index}.{name}": value for index, own in state["state"].items() for name, value in _entries(own)}
    tensors = {key: value.detach().clone() for key, value in entries.items() if isinstance(value, Tensor)}
    plain = {key: value for key, value in entries.items() if not isinstance(value, Tensor)}
    groups = [{name: value for name, value in group.items() if _is_plain(value)} for group in state["param_groups"]]
    return tensors, {"param_groups": groups, "entries": plain}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Set what `optimizer_state` gave.

    Raises:
        InputError: entries of other parameters, or settings of other kinds, than this optimiser has.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *values["entries"].items()]:
        index, _, name = key.partition(".")
        require(index.isdecimal() and int(index) < len(parameters), "optimizer", f"an entry {key!r}",
                f"entries of {len(parameters)} parameters", "Load what the same graph saved.")
        state.setdefault(int(index), {})[name] = value.clone() if isinstance(value, Tensor) else value
    _check_entries(parameters, state)
    groups = optimizer.state_dict()["param_groups"]
    for own, saved in zip(groups, values["param_groups"], strict=True):
        moved = {name: saved[name] for name in MOVING if name in own and name in saved}
        odd = [name for name, value in moved.items() if not is_number(value)]
        require(not odd, "optimizer", f"{odd} that are no finite numbers", "finite numbers",
                "Load what the same graph saved.")
        own |= moved
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _check_entries(parameters: Sequence[Tensor], state: Mapping[int, Mapping[str, Any]]) -> None:
    """Parameters of one number of dimensions keep entries of the same names (but for 8-bit optimisers, where the size
    decides), or none where they had no gradient yet; no entry is larger than its parameter."""
    names: dict[int, set[str]] = {}
    for index, own in sorted(state.items()):
        parameter = parameters[index]
        expected = set(own) if any("qmap" in name or name.startswith("state") for name in own) else \
            names.setdefault(parameter.ndim, set(own))
        small = all(value.numel() <= max(parameter.numel(), SMALL_ENTRY) for value in own.values()
                    if isinstance(value, Tensor))
        alike = all(isinstance(own[name], Tensor) and own[name].shape == parameter.shape
                    for name in LIKE_THE_PARAMETER if name in own)
        require(set(own) == expected and small and alike, "optimizer",
                f"{', '.join(sorted(own))} of parameter {index}", f"{', '.join(sorted(expected))} in the parameter's "
                "shape", "Load what the same graph saved.")


def _entries(own: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What an optimiser keeps of one parameter, by name."""
    for name, value in own.items():
        if isinstance(value, Mapping):
            yield from _entries(value)
        else:
            yield name, value


def _is_plain(value: object) -> bool:
    return not isinstance(value, Tensor) and not (isinstance(value, float) and not math.isfinite(value))
