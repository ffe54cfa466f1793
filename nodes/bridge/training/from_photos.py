"""A run of photos and one word: everything else follows the loaded MODEL's recipe, and is told with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....core.errors import require
from ....core.learning.adapter import AdapterConfig
from ....core.objectives import BasePrior, LossWeighting, PriorPreservation
from ....core.objectives.base import Objective, levels_and_shift
from ....core.store.class_images import ClassImages, PriorRecipe
from ....core.subject.subject import CLASS_TEMPLATE, Subject, fill
from ....core.training.config import TrainingConfig, TrainingOptions
from ....core.training.effort import KINDS, Amount, amount_of, check_effort, check_kind
from ....core.training.recipe import Recipe, Resolved, resolve, resolve_sampling
from ..model.recipes import recipe_of
from ..sampling.class_images import make_class_images, model_digest, text_encoder_digest
from ..sampling.sampling import empty_latent
from ..text.identifiers import rank_identifiers
from .recipe_levels import recipe_levels
from .request import Request

AT_ONCE = 4
"""Class images sampled at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """What the user said.

    Attributes:
        photos: gives the subject whose identifier and caption template it is handed.
        kind: as `effort.KINDS`.
        effort: as `effort.EFFORTS`.
        steps: 0 = automatic.
        run_name: empty = the noun.
    """

    model: Any
    clip: Any
    vae: Any
    photos: Callable[[str, str], Subject]
    noun: str
    kind: str
    effort: str
    seed: int = 0
    steps: int = 0
    run_name: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Settled:
    """What becomes of it.

    Attributes:
        sampling: the settings of its pictures.
        told: every number that was chosen, with its reason.
    """

    request: Request
    sampling: Resolved
    told: tuple[str, ...]


def settle(wish: Wish) -> Settled:
    """The run: an identifier is picked, class images are sampled where the kind and the effort want some.

    Raises:
        InputError: for what cannot be used; before anything is sampled.
    """
    check_loaded(wish)
    found = recipe_of(wish.model)
    names = rank_identifiers(wish.clip, wish.noun, seed=wish.seed)
    subject = wish.photos(names[0].text, KINDS[wish.kind].caption_template)
    resolved, sampling = resolve(found, len(subject.photos)), resolve_sampling(found)
    amount = amount_of(resolved, wish.kind, wish.effort, wish.steps)
    objectives, pools = _prior(wish, found, amount)
    values = resolved.values
    levels, shift = recipe_levels(found, wish.model, values["resolution"])
    if (levels, shift) != levels_and_shift(()):
        objectives = (*objectives, LossWeighting(levels="auto").settled(levels, shift))
    adapter = AdapterConfig(rank=values["rank"], alpha=values["rank"], targets=values["targets"])
    config = TrainingConfig(
        steps=amount.steps, learning_rate=values["learning_rate"], batch=values["batch"],
        resolution=values["resolution"], seed=wish.seed, options=TrainingOptions(adapter=adapter),
        objectives=objectives)
    request = Request(model=wish.model, clip=wish.clip, vae=wish.vae, subjects=(subject,), config=config,
                      run_name=wish.run_name.strip() or run_name_of(wish.noun), class_images=pools)
    told = (f"identifier {subject.identifier}: the first of {len(names)} rare words that this text encoder knows and "
            "that mean nearly nothing to it", *amount.told, *_told(resolved, without=("steps",)),
            f"noise levels {levels}, shift {shift:g}: {found.because('timestep_sampling')}",
            *(f"pictures: {line}" for line in _told(sampling)))
    return Settled(request=request, sampling=sampling, told=told)


def empty_latents(model: Any, vae: Any, size: int, count: int) -> dict[str, Tensor]:
    """LATENT of so many empty pictures at the family's own size."""
    one = empty_latent(model, vae, size)
    return {"samples": one.repeat(count, *(1 for _ in one.shape[1:]))}


def run_name_of(noun: str) -> str:
    """A folder's name for a noun: letters, digits and single underscores."""
    return re.sub(r"\W+", "_", noun).strip("_")[:40] or "subject"


def check_loaded(wish: Wish) -> None:
    """Raise `InputError` for a checkpoint without its parts, and words that say nothing."""
    for name, what in (("clip", wish.clip), ("vae", getattr(wish.vae, "first_stage_model", None))):
        require(what is not None, name, "nothing", f"a {name.upper()}", "This checkpoint has none; connect a loader "
                "that has one.")
    check_noun(wish.noun)
    check_kind(wish.kind)
    check_effort(wish.effort)


def check_noun(noun: str) -> None:
    """Raise `InputError` where nobody says what is in the photos."""
    require(bool(noun.strip()), "what_is_it", "an empty text", "one or a few plain words, such as dog or toy car",
            "Write what is in the photos.")


def _prior(wish: Wish, recipe: Recipe, amount: Amount) -> tuple[tuple[Objective, ...], tuple[ClassImages, ...]]:
    if amount.prior == "none":
        return (), ()
    if amount.prior == "base model":
        return (BasePrior(),), ()
    prior = PriorRecipe(model=model_digest(wish.model), text_encoder=text_encoder_digest(wish.clip),
                        prompt=fill(CLASS_TEMPLATE, "", wish.noun), size=recipe.resolution, sampler=recipe.sampler,
                        scheduler=recipe.scheduler, steps=recipe.sampling_steps, cfg=recipe.cfg, seed=wish.seed)
    pool, _ = make_class_images(wish.model, wish.clip, prior, wish.noun, amount.class_images, AT_ONCE)
    return (PriorPreservation(),), (pool,)


def _told(resolved: Resolved, without: Sequence[str] = ()) -> list[str]:
    return [f"{name.replace('_', ' ')} {value:g}: {resolved.reasons[name]}" if isinstance(value, float) else
            f"{name.replace('_', ' ')} {value}: {resolved.reasons[name]}"
            for name, value in resolved.values.items() if name not in without]
