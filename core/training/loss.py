"""From predictions to the terms of the loss: eq. 1 over the subject rows, and what the objectives make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..data.batch import Rows, SubjectRows
from ..data.examples import TrainingData, generator_for
from ..model.schedule import NoiseSchedule
from ..objectives.base import Objective, Outcome, TextView

SUBJECT = "subject"


def wants_base(objectives: Sequence[Objective], name: str, rows: Rows) -> bool:
    """Whether a block needs the base prediction (see `Outcome`)."""
    return rows.is_taught_by_base or (name == SUBJECT and any(objective.needs_base for objective in objectives))


def compare(objectives: Sequence[Objective], schedule: NoiseSchedule, blocks: Mapping[str, Rows],
            predictions: Mapping[str, Tensor], bases: Mapping[str, Tensor]) -> dict[str, Outcome[Any]]:
    """Every block with its prediction, its target, and the weighted distance of the two."""
    outcomes: dict[str, Outcome[Any]] = {}
    for name, rows in blocks.items():
        base, prediction = bases.get(name), predictions[name]
        target = schedule.target(rows.latents, rows.noise, rows.index)
        if rows.is_taught_by_base and base is not None:
            target = base
        for objective in objectives if name == SUBJECT else ():
            if objective.needs_base:
                target = objective.target(target, bases[name], cast(SubjectRows, rows))
        error = _distance(objectives, schedule, prediction, target, rows.index)
        error = error * _row_weight(objectives, schedule, rows.index)
        outcomes[name] = Outcome(rows=rows, prediction=prediction, target=target, base=base, error=error)
    return outcomes


def loss_terms(objectives: Sequence[Objective], outcomes: Mapping[str, Outcome[Any]]) -> dict[str, Tensor]:
    """The mean over the subject rows times every pixel weight, and the term of each objective that added rows."""
    error = outcomes[SUBJECT].error
    for objective in objectives:
        weight = objective.pixel_weight(outcomes[SUBJECT].rows)
        if weight is not None:
            error = weight * error
    terms = {objective.kind: objective.term(outcomes[objective.kind])
             for objective in objectives if objective.kind in outcomes}
    return {SUBJECT: error.mean(), **terms}


def text_terms(objectives: Sequence[Objective], view: TextView | None, data: TrainingData, seed: int,
               micro_step: int) -> dict[str, Tensor]:
    """The terms of objectives that look at token vectors alone; none without an encoder."""
    terms: dict[str, Tensor] = {}
    if view is None:
        return terms
    for objective in objectives:
        generator = generator_for(seed, f"{objective.kind}/text", micro_step)
        term = objective.text_term(view, data, generator)
        if term is not None:
            terms[objective.kind] = term
    return terms


def _distance(objectives: Sequence[Objective], schedule: NoiseSchedule, prediction: Tensor, target: Tensor,
              index: Tensor) -> Tensor:
    """(target - prediction)² at each element (N, C, h, w), or an objective's own distance."""
    for objective in objectives:
        distance = objective.distance(schedule)
        if distance is not None:
            return distance(prediction, target, index)
    return (target - prediction).square()


def _row_weight(objectives: Sequence[Objective], schedule: NoiseSchedule, index: Tensor) -> Tensor:
    """The product of all row weights, (N, 1, 1, 1)."""
    weight = torch.ones(len(index), device=index.device)
    for objective in objectives:
        factor = objective.row_weight(schedule, index)
        if factor is not None:
            weight = weight * factor.to(weight)
    return weight.view(-1, 1, 1, 1)
