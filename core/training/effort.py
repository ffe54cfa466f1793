"""How much is trained where the user says what a subject is and what it is worth, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import require
from ..subject.subject import CAPTION_TEMPLATE
from .recipe import Resolved

Prior = Literal["class images", "base model", "none"]


@dataclass(frozen=True, kw_only=True)
class SubjectKind:
    """What a kind of subject asks for.

    Attributes:
        prior: what keeps the class; "none" where the class itself is to change.
        steps: times those of the recipe.
        why: where the two are from.
    """

    prior: Prior
    steps: float = 1.0
    caption_template: str = CAPTION_TEMPLATE
    why: str


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a subject is worth.

    Attributes:
        steps: times those of the recipe.
        class_images: sampled at most; 0 = the base model's own predictions keep the class.
    """

    steps: float
    class_images: int


_OBJECT = SubjectKind(prior="base model", why="published: huggingface.co/blog/dreambooth, where class images made no "
                                              "great difference for objects; the base model's predictions cost none")
KINDS: Mapping[str, SubjectKind] = {
    "pet": SubjectKind(prior="class images", why="published: DreamBooth (arXiv:2208.12242), 3.3"),
    "person": SubjectKind(prior="class images", steps=2.0,
                          why="assumed: less than the factor 3 that huggingface.co/blog/dreambooth found for faces, "
                              "which need class images, too"),
    "object": _OBJECT,
    "style": SubjectKind(prior="none", caption_template="a {noun} in {V} style",
                         why="assumed: a style is to be drawn on everything, so that nothing is kept"),
    "other": _OBJECT,
}
"""By the word in the widget."""
EFFORTS: Mapping[str, Effort] = {
    "quick": Effort(steps=0.5, class_images=0),
    "normal": Effort(steps=1.0, class_images=50),
    "thorough": Effort(steps=1.5, class_images=200),
}
"""By the word in the widget. Assumed, but for the 200 class images of diffusers examples/dreambooth/README.md."""


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much is trained.

    Attributes:
        class_images: to sample; 0 = none.
        told: a line for each number, with its reason.
    """

    steps: int
    prior: Prior
    class_images: int
    told: tuple[str, ...]


def check_kind(name: str) -> None:
    """Raise `InputError` for a kind that is not there."""
    require(name in KINDS, "kind", repr(name), "one of " + ", ".join(KINDS), "Choose one of them.")


def check_effort(name: str) -> None:
    """Raise `InputError` for an effort that is not there."""
    require(name in EFFORTS, "effort", repr(name), "one of " + ", ".join(EFFORTS), "Choose one of them.")


def amount_of(resolved: Resolved, kind: str, effort: str, steps: int = 0) -> Amount:
    """How much of a recipe is trained.

    Args:
        resolved: the recipe, for these photos.
        steps: as the user wants; 0 = by the recipe, kind and effort.

    Raises:
        InputError: for a kind or an effort that is not there.
    """
    check_kind(kind)
    check_effort(effort)
    chosen, worth = KINDS[kind], EFFORTS[effort]
    number = steps or max(1, math.ceil(resolved.values["steps"] * chosen.steps * worth.steps))
    shares = ((chosen.steps, f"the kind {kind} ({chosen.why})"), (worth.steps, f"the effort {effort}"))
    factors = [f"times {factor:g} for {what}" for factor, what in shares if factor != 1]
    why = "as asked" if steps else "; ".join([resolved.reasons["steps"], *factors])
    prior: Prior = "base model" if chosen.prior == "class images" and not worth.class_images else chosen.prior
    images = min(worth.class_images, number * resolved.values["batch"]) if prior == "class images" else 0
    return Amount(steps=number, prior=prior, class_images=images, told=(
        f"steps {number}: {why}", f"class kept by {_kept(prior, images)}: {_why_prior(chosen, prior, effort)}"))


def _kept(prior: Prior, images: int) -> str:
    return {"class images": f"{images} class images", "base model": "the base model's own predictions",
            "none": "nothing"}[prior]


def _why_prior(kind: SubjectKind, prior: Prior, effort: str) -> str:
    if prior == "class images":
        return f"{kind.why}; as many as the effort {effort} takes, and no more than the steps use"
    return kind.why if prior == kind.prior else f"the effort {effort} samples no class images"
