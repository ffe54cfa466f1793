"""Where is the subject in a picture that was sampled, whose truth nobody knows? Where no backdrop explains it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from .scenes import Case
from .scoring import interval, iou

BACKDROPS, BATCH = 200, 10


def backdrops(vae: Any, context: str) -> Any:
    """Rendered backdrops of a context as the autoencoder shows them, (n, H, W, 3)."""
    import numpy
    import torch

    from comfyui_personalize.pocket.config import SIZE
    from comfyui_personalize.pocket.places import BACKDROPS as DRAW

    drawn = [numpy.asarray(DRAW[context](2 * SIZE, random.Random(seed)).resize((SIZE, SIZE)).convert("RGB"))
             for seed in range(BACKDROPS)]
    pixels = torch.from_numpy(numpy.stack(drawn)).float() / 255
    return torch.cat([vae.decode(vae.encode(part)) for part in pixels.split(BATCH)]).clamp(0, 1)


def novelty(picture: Any, known: Any) -> Any:
    """How far each pixel is from the nearest backdrop, (H, W): RGB distance, smoothed over 5 pixels."""
    from torch.nn.functional import avg_pool2d

    nearest = (known - picture).square().sum(-1).sqrt().amin(0)
    return avg_pool2d(nearest[None, None], 5, 1, 2)[0, 0]


def novelties(pictures: Sequence[Any], cases: Sequence[Case], known: dict[str, Any]) -> list[Any]:
    """The novelty (H, W) of each picture against the backdrops of its case's context."""
    return [novelty(picture, known[case.context]) for picture, case in zip(pictures, cases, strict=True)]


def choose_cut(vae: Any, development: Sequence[Case], final: Sequence[Case],
               known: dict[str, Any]) -> tuple[float, str]:
    """The novelty above which a pixel is the subject's, chosen on development cases, and its IoU on final ones."""
    new = [novelties([vae.decode(vae.encode(case.picture[None]))[0].clamp(0, 1) for case in part], part, known)
           for part in (development, final)]
    truths = [[case.mask for case in part] for part in (development, final)]
    tried = {step / 100: sum(iou(each >= step / 100, truth) for each, truth in zip(new[0], truths[0], strict=True))
             for step in range(4, 40, 2)}
    cut = max(tried, key=lambda step: tried[step])
    return cut, interval([iou(each >= cut, truth) for each, truth in zip(new[1], truths[1], strict=True)])
