"""One file per objective; a file that is put here is known by its objectives' `kind`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError
from .base import Objective, combine, prepared_data, warnings_about_masks
from .base_prior import BasePrior
from .blank_prompt import BlankPromptPreservation
from .loss_weighting import LossWeighting
from .masked import MaskedLoss
from .masked_prior import MaskedPrior
from .object_specific import ObjectSpecificLoss
from .prior_preservation import PriorPreservation

__all__ = ["BasePrior", "BlankPromptPreservation", "LossWeighting", "MaskedLoss", "MaskedPrior", "OBJECTIVES",
           "ObjectSpecificLoss", "Objective", "PriorPreservation", "combine", "objectives_from_dicts", "prepared_data",
           "warnings_about_masks"]


def _discover() -> dict[str, type[Objective]]:
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    classes = {value for module in modules for value in vars(module).values()
               if isinstance(value, type) and issubclass(value, Objective) and value is not Objective}
    return {objective.kind: objective for objective in sorted(classes, key=lambda objective: objective.kind)}


OBJECTIVES: dict[str, type[Objective]] = _discover()


def objectives_from_dicts(saved: Iterable[Mapping[str, Any]]) -> tuple[Objective, ...]:
    """The objectives whose `to_dict` metadata holds.

    Raises:
        InputError: for a kind that this version does not know.
    """
    objectives = []
    for fields in saved:
        kind = fields.get("kind")
        if kind not in OBJECTIVES:
            raise InputError("objective", repr(kind), f"one of {', '.join(OBJECTIVES)}",
                             "Update the extension.")
        arguments = {name: value for name, value in fields.items() if name != "kind"}
        objectives.append(OBJECTIVES[kind](**arguments))
    return combine(objectives)
