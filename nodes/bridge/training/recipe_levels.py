"""The noise levels that a run trains on, where they follow the recipe of the model's family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ....core.training.config import TrainingConfig
from ....core.training.recipe import Recipe, levels_of
from ..model.denoiser import schedule_of
from ..model.recipes import recipe_of


def with_recipe_levels(config: TrainingConfig, model: Any) -> TrainingConfig:
    """The config without open noise levels: settled before the run's key is made, so that a recipe that changes later
    changes no run.

    Raises:
        InputError: the user's own recipe is asked for and cannot be used; names the file.
    """
    if not any(objective.has_open_levels for objective in config.objectives):
        return config
    levels, shift = recipe_levels(recipe_of(model), model, config.resolution)
    return replace(config, objectives=tuple(one.settled(levels, shift) for one in config.objectives))


def recipe_levels(recipe: Recipe, model: Any, resolution: int) -> tuple[str, float]:
    """Which noise levels the recipe trains on in this MODEL, and their shift."""
    return levels_of(recipe, resolution, schedule_of(model).prediction == "flow")
