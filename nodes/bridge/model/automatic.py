"""Settings of a node that follow the loaded MODEL's recipe where they are 0 or "auto". The recipe is looked for only
where something is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ....core.learning.adapter import AdapterConfig
from ....core.training.automatic import (
    AUTO,
    CLASS_IMAGES,
    WHY_CLASS_IMAGES,
    asked,
    has_open_targets,
    is_automatic,
    settled,
    with_targets,
)
from ....core.training.config import TrainingOptions
from ....core.training.recipe import Asked, AskedSampling, Resolved, resolve, resolve_sampling
from ..sockets import PreviewSettings
from .recipes import recipe_of


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Settings without an "auto".

    Attributes:
        values: by name.
        options: how it is learned.
        told: a line for each value that the recipe gave, with the reason.
    """

    values: Mapping[str, Any]
    options: TrainingOptions
    told: tuple[str, ...] = ()


def settle_training(model: Any, photos: int, options: TrainingOptions | None, given: Mapping[str, Any]) -> Settled:
    """A training's numbers and options.

    Args:
        photos: how many are trained on.
        options: None = the trainer's own, which follow the recipe where the rate does: a rate is that of an adapter.
        given: steps, learning_rate, batch and resolution.

    Raises:
        InputError: the user's own recipe cannot be used; names the file.
    """
    follows = options is None and is_automatic(given["learning_rate"])
    chosen = options or TrainingOptions()
    wanted = dict(given) | ({"rank": 0, "targets": AUTO} if follows else {})
    wanted |= {"targets": AUTO} if has_open_targets(chosen) else {}
    if not any(map(is_automatic, wanted.values())):
        return Settled(values=given, options=chosen)
    resolved = resolve(recipe_of(model), photos, Asked(**asked(given)), kind=chosen.adapter.kind,
                       optimizer=chosen.optimizer)
    values, told = settled(wanted, resolved)
    rank, targets = values.pop("rank", None), values.pop("targets", "")
    if rank is not None:
        chosen = replace(chosen, adapter=AdapterConfig(rank=rank, alpha=rank, targets=AUTO))
    return Settled(values=values, options=with_targets(chosen, targets), told=tuple(told))


def settle_preview(model: Any, preview: PreviewSettings | None) -> tuple[PreviewSettings | None, list[str]]:
    """The preview as the MODEL's family samples, where it is automatic.

    Raises:
        InputError: as `settle_training`.
    """
    if preview is None:
        return None, []
    given = {"sampler": preview.sampler, "scheduler": preview.scheduler, "sampling_steps": preview.steps,
             "cfg": preview.cfg}
    values, told = settle_sampling(model, given)
    return replace(preview, sampler=values["sampler"], scheduler=values["scheduler"], steps=values["sampling_steps"],
                   cfg=values["cfg"]), [f"of the preview, {line}" for line in told]


def settle_class_images(model: Any, **given: Any) -> tuple[dict[str, Any], list[str]]:
    """Class images as the MODEL's family samples: count, size (the training resolution), sampler, scheduler,
    sampling_steps and cfg.

    Raises:
        InputError: as `settle_training`.
    """
    if not any(map(is_automatic, given.values())):
        return given, []
    found = recipe_of(model)
    pictures = resolve_sampling(found)
    return settled(given, Resolved(
        values={**pictures.values, "size": found.resolution, "count": CLASS_IMAGES},
        reasons={**pictures.reasons, "size": f"the training resolution: {found.because('resolution')}",
                 "count": WHY_CLASS_IMAGES}))


def settle_sampling(model: Any, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A picture's settings, by the names of `AskedSampling`.

    Raises:
        InputError: as `settle_training`.
    """
    if not any(map(is_automatic, given.values())):
        return dict(given), []
    return settled(given, resolve_sampling(recipe_of(model), AskedSampling(**asked(given))))
