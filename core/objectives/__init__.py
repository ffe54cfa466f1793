"""One file per objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError
from .base import Objective, combine
from .masked import MaskedLoss
from .object_specific import ObjectSpecificLoss
from .prior_preservation import PriorPreservation

OBJECTIVES: dict[str, type[Objective]] = {
    objective.kind: objective for objective in (MaskedLoss, ObjectSpecificLoss, PriorPreservation)
}


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
