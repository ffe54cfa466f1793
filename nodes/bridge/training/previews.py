"""When pictures are sampled on the way, and how one looks that nobody described."""

from __future__ import annotations

from ....core.training.recipe import resolve_sampling
from ..model.recipes import recipe_of
from ..sockets import PreviewSettings
from .request import Request

PARTS = (0.25, 0.5, 0.75)
"""Of a run, after which pictures are sampled where no number of steps is given; the last one comes at its end."""


def is_due(step: int, total: int, every: int) -> bool:
    """Whether a picture is sampled after a step.

    Args:
        every: steps between two pictures; 0 = after 25, 50 and 75 %.
    """
    return step % every == 0 if every else step in {max(1, round(total * part)) for part in PARTS}


def usual_preview(request: Request) -> PreviewSettings:
    """The caption of the subject, sampled as its family's recipe says.

    Raises:
        InputError: a recipe of the user's cannot be used; names the file.
    """
    found = resolve_sampling(recipe_of(request.sampling_model)).values
    return PreviewSettings(prompt=request.subjects[0].caption, sampler=found["sampler"], scheduler=found["scheduler"],
                           steps=found["sampling_steps"], cfg=found["cfg"])
