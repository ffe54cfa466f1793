"""When pictures are sampled on the way, how one looks that nobody described, and the chart of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ....core.subject.prompts import fill_subjects, has_places
from ....core.subject.subject import Subject
from ....core.training.recipe import resolve_sampling
from ..model.recipes import recipe_of
from ..progress import chart
from ..sockets import Personalization, PreviewSettings
from .request import Request

PARTS = (0.25, 0.5, 0.75)
"""Of a run, after which pictures are sampled where no number of steps is given; the last one comes at its end."""


def is_due(step: int, total: int, every: int) -> bool:
    """Whether a picture is sampled after a step.

    Args:
        every: steps between two pictures; 0 = after 25, 50 and 75 %.
    """
    return step % every == 0 if every else step in {max(1, round(total * part)) for part in PARTS}


def named_preview(settings: PreviewSettings | None, subjects: Sequence[Subject]) -> PreviewSettings | None:
    """The preview with the subjects' words in the places of its prompt: {V} {noun}, of the second {V2} {noun2}.

    Raises:
        InputError: a place of more subjects than there are.
    """
    if settings is None or not has_places(settings.prompt):
        return settings
    identifiers, nouns = zip(*(named for subject in subjects for named in subject.names), strict=True)
    return replace(settings, prompt=fill_subjects(settings.prompt, identifiers, nouns))


def usual_preview(request: Request) -> PreviewSettings:
    """The caption of the subject, sampled as its family's recipe says.

    Raises:
        InputError: a recipe of the user's cannot be used; names the file.
    """
    found = resolve_sampling(recipe_of(request.sampling_model)).values
    return PreviewSettings(prompt=request.subjects[0].caption, sampler=found["sampler"], scheduler=found["scheduler"],
                           steps=found["sampling_steps"], cfg=found["cfg"])


def with_usual_preview(request: Request) -> Request:
    """The request with pictures after 25, 50 and 75 % and at the end.

    Raises:
        InputError: as `usual_preview`.
    """
    return replace(request, preview=usual_preview(request))


def shown_chart(result: Personalization) -> dict[str, Any]:
    """What a node's `ui` takes for web/training.js to draw the chart of a run."""
    return {"personalize_chart": (chart(result.losses, result.validation),)}
