"""The recipe of a loaded MODEL: by ComfyUI's own classes, the network's settings and the name of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths

from ....core.errors import require
from ....core.training.recipe import Recipe
from ....core.training.recipe_files import ModelFacts, recipe

OWN = Path("personalize") / "recipes"
"""The user's recipes, inside ComfyUI's user folder."""


def own_recipes() -> Path:
    """The folder of the user's recipes; it need not exist."""
    return Path(folder_paths.get_user_directory()) / OWN


def recipe_of(model: Any) -> Recipe:
    """The recipe of a MODEL: the user's own, or what is known of its family.

    Raises:
        InputError: one of the user's files cannot be used; names the file.
    """
    found = recipe(facts_of(model), own_recipes())
    for name, choices in (("sampler", comfy.samplers.KSampler.SAMPLERS),
                          ("scheduler", comfy.samplers.KSampler.SCHEDULERS)):
        require(getattr(found, name) in choices, f"recipe of {found.name}: {name}", repr(getattr(found, name)),
                f"one of KSampler's: {', '.join(choices)}", f"Change it in the file in {own_recipes()}.")
    return found


def facts_of(model: Any) -> ModelFacts:
    """By what a MODEL's recipe is found."""
    base = model.model
    classes = (*type(base.model_config).__mro__, *type(base).__mro__)
    shape = {**getattr(base.model_config, "unet_config", {}), "prediction": base.model_type.name}
    return ModelFacts(classes=[each.__name__ for each in classes], shape=shape, file=file_of(model))


def file_of(model: Any) -> str:
    """The name of the file that a stock loader read; empty where the MODEL came another way."""
    arguments = (getattr(model, "cached_patcher_init", None) or (None, ()))[1]
    first = arguments[0] if arguments else ""
    path = first[0] if isinstance(first, list | tuple) and first else first
    return Path(path).name if isinstance(path, str | Path) else ""
