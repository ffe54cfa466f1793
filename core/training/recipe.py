"""A family's recipe: the settings to begin with, each with its source; and what "auto" stands for by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from ..errors import require
from ..learning.adapter import AdapterConfig
from .config import TrainingConfig, TrainingOptions

TimestepSampling = Literal["uniform", "logit_normal"]
Captions = Literal["phrase", "sentences", "tags"]
FULL_RATE = 0.05
"""Of an adapter's rate, where all weights learn: 5e-6 and 1e-4 in diffusers' two examples for Stable Diffusion 1.5."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to begin with in a family of models.

    Attributes:
        name: of the family, for people.
        resolution: side of the photos in pixels.
        learning_rate: of an adapter whose alpha is its rank.
        steps_per_photo: how often each photo is used.
        rank: of the adapter.
        targets: which layers learn, as `AdapterConfig.targets`.
        batch: photos per step.
        timestep_sampling: how a noise level t in 0..1 is drawn: "uniform", or "logit_normal", the sigmoid of a unit
            normal; and then shifted.
        shift: s of t' = s t / (1 + (s - 1) t), by resolution in pixels; 1 = none.
        captions: what its text encoder was taught with: "phrase", "sentences" or "tags".
        sampler: of its pictures, as ComfyUI's KSampler names it.
        scheduler: as there.
        sampling_steps: of a picture.
        cfg: guidance scale of a picture; 1 = none.
        size: of a picture, in pixels.
        sources: where each value is from, by its name.
        advice: one thing more to know.
    """

    name: str
    resolution: int
    learning_rate: float
    steps_per_photo: int
    rank: int
    targets: str
    batch: int
    timestep_sampling: TimestepSampling
    shift: Mapping[int, float]
    captions: Captions
    sampler: str
    scheduler: str
    sampling_steps: int
    cfg: float
    size: int
    sources: Mapping[str, str] = field(default_factory=dict)
    advice: str = ""

    def __post_init__(self) -> None:
        for name in ("resolution", "steps_per_photo", "rank", "batch", "sampling_steps", "size"):
            value = getattr(self, name)
            require(isinstance(value, int) and not isinstance(value, bool) and value >= 1, name, repr(value),
                    "a whole number, 1 or more", "Write for example 16.")
        for name, low, high in (("learning_rate", 0.0, 1.0), ("cfg", 0.0, 100.0)):
            value = getattr(self, name)
            require(_is_number(value) and low <= value <= high, name, repr(value), f"a number, {low:g} to {high:g}",
                    "Write for example 0.0001 as a rate, 4 as cfg.")
        for name, choices in (("timestep_sampling", TimestepSampling), ("captions", Captions)):
            require(getattr(self, name) in get_args(choices), name, repr(getattr(self, name)),
                    "one of " + ", ".join(get_args(choices)), "Choose one of them.")
        for name in ("name", "targets", "sampler", "scheduler"):
            value = getattr(self, name)
            require(isinstance(value, str) and bool(value), name, repr(value), "a text", "Write one.")
        shifts = list(self.shift.values()) if isinstance(self.shift, Mapping) else []
        require(bool(shifts) and all(_is_number(value) and value > 0 for value in shifts), "shift", repr(self.shift),
                "shifts above 0 by resolution", 'Write for example {"1024": 3.0}; 1 is none.')
        adapter = AdapterConfig(rank=self.rank, alpha=self.rank, targets=self.targets)
        TrainingConfig(steps=1, learning_rate=self.learning_rate, batch=self.batch, resolution=self.resolution,
                       options=TrainingOptions(adapter=adapter))

    def shift_at(self, resolution: int) -> float:
        """The shift at a resolution: its logarithm is linear in the number of latents, as Flux' is.

        Source: FLUX.1, `FlowMatchEulerDiscreteScheduler` in diffusers: exp(m n + b) for n latents.
        """
        known = sorted(self.shift)
        if len(known) == 1:
            return self.shift[known[0]]
        low = max((size for size in known[:-1] if size <= resolution), default=known[0])
        high = next(size for size in known if size > low)
        part = (resolution ** 2 - low ** 2) / (high ** 2 - low ** 2)
        return math.exp((1 - part) * math.log(self.shift[low]) + part * math.log(self.shift[high]))

    def because(self, name: str) -> str:
        """Where a value is from, in words."""
        return f"recipe of {self.name}; {self.sources.get(name, 'no source')}"


def levels_of(recipe: Recipe, resolution: int, is_flow: bool) -> tuple[TimestepSampling, float]:
    """Which noise levels a recipe trains on and their shift, as `objectives.LossWeighting` has both.

    Args:
        resolution: side of the photos in pixels.
        is_flow: whether the network predicts a flow, whose shift is of the noise level itself. Other schedules are not
            shifted, so that 1 is the model's own table, 0.
    """
    shift = recipe.shift_at(resolution)
    return recipe.timestep_sampling, shift if is_flow or shift != 1 else 0.0


VALUES = tuple(part.name for part in fields(Recipe) if part.name not in ("name", "sources", "advice"))
"""What a recipe says of a family."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Settings without an "auto", and why each is what it is.

    Attributes:
        values: by name, as a run's key takes them.
        reasons: for each of them a sentence.
    """

    values: Mapping[str, Any]
    reasons: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user chose of a training; None stands for "auto".

    Attributes:
        steps: of the whole run.
    """

    resolution: int | None = None
    learning_rate: float | None = None
    steps: int | None = None
    batch: int | None = None
    rank: int | None = None
    targets: str | None = None


@dataclass(frozen=True, kw_only=True)
class AskedSampling:
    """What the user chose of a picture; None stands for "auto"."""

    sampler: str | None = None
    scheduler: str | None = None
    sampling_steps: int | None = None
    cfg: float | None = None
    size: int | None = None


def resolve(recipe: Recipe, photos: int, asked: Asked | None = None, *, kind: str = "lora",
            optimizer: str = "auto") -> Resolved:
    """The settings of a training, before its key is made: what was asked, and the recipe for the rest.

    Args:
        photos: how many are trained on.
        kind: of the adapter; all weights learn more slowly.
        optimizer: Prodigy finds its rate by itself, from 1.
    """
    asked = asked or Asked()
    batch = min(recipe.batch, max(photos, 1)) if asked.batch is None else asked.batch
    steps = math.ceil(recipe.steps_per_photo * max(photos, 1) / batch)
    rate, why = _rate(recipe, kind, optimizer)
    found = {
        "resolution": (recipe.resolution, recipe.because("resolution")),
        "learning_rate": (rate, why),
        "steps": (steps, f"{recipe.steps_per_photo} per photo, {_count(photos, 'photo')}, {batch} per step: "
                         f"{recipe.because('steps_per_photo')}"),
        "batch": (batch, recipe.because("batch")),
        "rank": (recipe.rank, recipe.because("rank")),
        "targets": (recipe.targets, recipe.because("targets")),
    }
    return _resolved(found, asked)


def resolve_sampling(recipe: Recipe, asked: AskedSampling | None = None) -> Resolved:
    """The settings of a picture: what was asked, and the recipe for the rest."""
    names = [part.name for part in fields(AskedSampling)]
    return _resolved({name: (getattr(recipe, name), recipe.because(name)) for name in names}, asked or AskedSampling())


def _resolved(found: Mapping[str, tuple[Any, str]], asked: Asked | AskedSampling) -> Resolved:
    chosen = {name: getattr(asked, name) for name in found if getattr(asked, name) is not None}
    reasons = {name: "as asked" if name in chosen else why for name, (_, why) in found.items()}
    return Resolved(values={name: value for name, (value, _) in found.items()} | chosen, reasons=reasons)


def _rate(recipe: Recipe, kind: str, optimizer: str) -> tuple[float, str]:
    if optimizer == "prodigy":
        return 1.0, "Prodigy finds its rate by itself; published: diffusers examples/dreambooth/README_flux.md"
    if kind == "full":
        return (recipe.learning_rate * FULL_RATE, f"all weights learn at {FULL_RATE:g} of an adapter's rate (assumed: "
                f"as in diffusers' examples for Stable Diffusion 1.5): {recipe.because('learning_rate')}")
    return recipe.learning_rate, recipe.because("learning_rate")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_same(given: Any, value: Any) -> bool:
    return math.isclose(given, value) if _is_number(given) and _is_number(value) else bool(given == value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def differences(resolved: Resolved, given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where given settings are others than the recipe's: (given, the recipe's) by name."""
    return {name: (given[name], value) for name, value in resolved.values.items()
            if name in given and not _is_same(given[name], value)}


def overlaid(recipe: Recipe, name: str, values: Mapping[str, Any], sources: Mapping[str, str], advice: str) -> Recipe:
    """A recipe in which some values are others, under another name.

    Raises:
        InputError: a value is none of its kind.
    """
    return replace(recipe, name=name, **values, sources={**recipe.sources, **sources}, advice=advice)
