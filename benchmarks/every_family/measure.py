"""All figures of one case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InputError
from ...nodes.bridge.model.denoiser import check_model
from .case import Case
from .dci import dci
from .identifier import identifier
from .networks import describe
from .predictions import gradient_error, mixed_text_error, prediction_error
from .rig import Rig
from .stock import stock_step
from .training import train
from .verdict import KEYS, NotThere, reason

LEARNING: dict[tuple[str, ...], Callable[[Rig], Any]] = {
    ("prediction_error",): prediction_error,
    ("mixed_text_error",): mixed_text_error,
    ("gradient_error",): gradient_error,
    ("loss_ratio", "resume_exact", "lora_keys", "lora_error"): train,
}
OTHERS: dict[tuple[str, ...], Callable[[Rig], Any]] = {("dci",): dci, ("identifier",): identifier}


def measure(case: Case) -> dict[str, Any]:
    """The figures of a case under `verdict.KEYS`, null where there is none, and then `why`."""
    rig = Rig.of(case)
    record: dict[str, Any] = dict.fromkeys(KEYS) | {"name": case.title}
    reasons: dict[str, str] = {}
    try:
        check_model(rig.model, rig.case.has_picture)
        before = state_of(rig)
        look(rig, LEARNING, record, reasons)
        record["restored"] = is_same_state(state_of(rig), before)
    except InputError as refusal:
        reasons["training"] = f"refused: {refusal}"
    look(rig, OTHERS, record, reasons)
    why = "; ".join(f"{keys}: " + text.replace("; ", ", ") for keys, text in reasons.items())
    return record | ({"why": why} if why else {})


def look(rig: Rig, figures: dict[tuple[str, ...], Callable[[Rig], Any]], record: dict[str, Any],
         reasons: dict[str, str]) -> None:
    """Fill the record with these figures, and the reasons where one of them is not there or cannot be had."""
    for keys, figure in figures.items():
        try:
            value = figure(rig)
            record |= value if isinstance(value, dict) else {keys[0]: value}
        except NotThere as why:
            reasons[", ".join(keys)] = str(why)
        except Exception as error:  # noqa: BLE001 - whatever a network does is a finding, and the next case goes on
            reasons[", ".join(keys)] = reason(error)


def state_of(rig: Rig) -> tuple[dict[str, Tensor], Any, Tensor]:
    """Everything of a MODEL that training must leave alone: weights, modules, a stock picture; nothing is loaded."""
    module = rig.model.model.diffusion_model
    picture = stock_step(rig.model, rig.entries[0], rig.latent, rig.sigma)
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}, describe(module), picture


def is_same_state(first: tuple[dict[str, Tensor], Any, Tensor], second: tuple[dict[str, Tensor], Any, Tensor]) -> bool:
    """Bit for bit."""
    weights = first[0].keys() == second[0].keys() and all(torch.equal(first[0][name], second[0][name])
                                                          for name in first[0])
    return weights and first[1] == second[1] and torch.equal(first[2], second[2])
