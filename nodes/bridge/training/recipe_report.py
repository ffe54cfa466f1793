"""What a run's report says of the family's recipe, and where the user's settings are others."""

from __future__ import annotations

from typing import Any

from ....core.errors import InputError
from ....core.objectives.base import levels_and_shift
from ....core.training.recipe import Recipe, differences, resolve, resolve_sampling
from ..model.recipes import recipe_of
from .recipe_levels import recipe_levels
from .request import Request

STYLES = {"phrase": "a phrase, such as 'a {V} {noun}'", "sentences": "sentences that say what else is in the photo",
          "tags": "tags between commas, the subject first"}
"""How captions are best written, by a recipe's word for it."""


def about_recipe(request: Request) -> list[str]:
    """The recipe in a line for training, one for pictures where there are previews, and what else is to know; nothing
    where a file of the user's cannot be used."""
    try:
        found, sampling = recipe_of(request.model), recipe_of(request.sampling_model)
    except InputError:
        return []
    told = [f"recipe of {found.name}: {found.resolution} pixels, learning rate {found.learning_rate:g}, "
            f"{found.steps_per_photo} steps per photo, rank {found.rank} in {found.targets}, batch {found.batch}; "
            + _told(_other_settings(request, found)),
            *_levels_and_captions(request, found)]
    if request.preview is not None:
        told.append(f"pictures of {sampling.name}: {sampling.sampler}, {sampling.scheduler}, "
                    f"{sampling.sampling_steps} steps, cfg {sampling.cfg:g}, {sampling.size} pixels; "
                    + _told(_other_pictures(request, sampling)))
    advice = sampling.advice if request.sample_with is None else ""
    return [*told, *([f"{found.name}: {advice}"] if advice else [])]


def warnings_about_recipes(request: Request) -> list[str]:
    """Files of the user's that cannot be used."""
    try:
        recipe_of(request.model)
        recipe_of(request.sampling_model)
    except InputError as fault:
        return [f"no recipe is used: {fault}"]
    return []


def _other_settings(request: Request, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    config, adapter = request.config, request.config.options.adapter
    photos = sum(len(subject.photos) for subject in request.subjects)
    given: dict[str, Any] = {"resolution": config.resolution, "steps": config.steps, "batch": config.batch}
    if config.options.trains_denoiser:
        given |= {"learning_rate": config.learning_rate, "targets": adapter.targets}
        given |= {} if adapter.is_full else {"rank": adapter.rank}
    resolved = resolve(recipe, photos, kind=adapter.kind, optimizer=config.options.optimizer)
    return differences(resolved, given)


def _levels_and_captions(request: Request, recipe: Recipe) -> list[str]:
    """Which noise levels the recipe trains on, and in which words its text encoder was taught."""
    recipes = recipe_levels(recipe, request.model, request.config.resolution)
    yours = levels_and_shift(request.config.objectives)
    levels = f"noise levels of {recipe.name}: {_levels(*recipes)}; " + (
        "yours are the same" if _levels(*yours) == _levels(*recipes) else
        f"yours are {_levels(*yours)}: Loss Weighting with levels auto trains on the recipe's")
    caption = request.subjects[0].caption_of(request.subjects[0].photos[0])
    return [levels, f"captions of {recipe.name}: {STYLES[recipe.captions]}; yours begin with {caption!r}"]


def _levels(levels: str, shift: float) -> str:
    return levels + (f", shift {shift:.3g}" if shift else "")


def _other_pictures(request: Request, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    preview = request.preview
    assert preview is not None  # `about_recipe` asks first
    return differences(resolve_sampling(recipe), {
        "sampler": preview.sampler, "scheduler": preview.scheduler, "sampling_steps": preview.steps,
        "cfg": preview.cfg})


def _told(others: dict[str, tuple[Any, Any]]) -> str:
    if not others:
        return "yours are the same"
    parts = [f"{name.replace('_', ' ')} ({_number(given)} instead of {_number(value)})"
             for name, (given, value) in others.items()]
    return f"yours differ in {', '.join(parts)}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
