"""The noise levels that a run trains on, where they follow the recipe of the model's family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ....core.objectives import LossWeighting
from ....core.objectives.base import levels_and_shift
from ....core.training.config import TrainingConfig
from ....core.training.recipe import Recipe, levels_of
from ..model.denoiser import schedule_of
from ..model.recipes import recipe_of


def with_recipe_levels(config: TrainingConfig, model: Any, is_automatic: bool = False) -> TrainingConfig:
    """The config without open noise levels: settled before the run's key is made, so that a recipe that changes later
    changes no run.

    Args:
        is_automatic: whether levels of which nothing is said follow the recipe, too: its learning rate was found at
            them.

    Raises:
        InputError: the user's own recipe is asked for and cannot be used; names the file.
    """
    objectives = config.objectives
    if is_automatic and all(one.levels_and_shift is None for one in objectives):
        objectives = (*objectives, LossWeighting(levels="auto"))
    if not any(one.has_open_levels for one in objectives):
        return config
    levels, shift = recipe_levels(recipe_of(model), model, config.resolution)
    if len(objectives) > len(config.objectives) and (levels, shift) == levels_and_shift(()):
        return config  # a weighting that changes nothing would be another run
    return replace(config, objectives=tuple(one.settled(levels, shift) for one in objectives))


def recipe_levels(recipe: Recipe, model: Any, resolution: int) -> tuple[str, float]:
    """Which noise levels the recipe trains on in this MODEL, and their shift."""
    return levels_of(recipe, resolution, schedule_of(model).prediction == "flow")
