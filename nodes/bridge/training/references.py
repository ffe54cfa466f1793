"""What edit and inpainting models are shown beside the photos of one run, and in its previews."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ....core.data.examples import References
from ....core.subject.subject import Subject
from ..model.denoiser import is_inpainting, needs_picture
from ..model.hashes import vae_hash
from ..model.latent_shapes import pixels_per_latent, size_step
from ..output import runs_root
from ..photos.references import encode_references, most_references, shown_references
from ..text.pictures import sees_pictures
from .request import Request


def references_of(request: Request, subjects: Sequence[Subject]) -> list[list[References]]:
    """For each photo of the subjects what is shown beside its views."""
    if not any(photo.references or subject.data.inpaint_masks for subject in subjects for photo in subject.photos):
        return [[] for subject in subjects for _ in subject.photos]
    step = size_step(request.model, pixels_per_latent(request.model))
    return encode_references(request.model, request.vae, subjects, request.config.resolution, step, runs_root(),
                             vae_hash(request.vae), _is_seen(request))


def preview_references(request: Request) -> References | None:
    """What previews are shown: the same as the first photo's first view; None where it has nothing."""
    first = replace(request.subjects[0], photos=request.subjects[0].photos[:1])
    return next((views[0] for views in references_of(request, (first,)) if views), None)


def blank_references(request: Request, share: float = 1.0) -> References | None:
    """What the photo with the most beside it is shown, its latents zeros of the right sizes: nothing is encoded.

    Args:
        share: of the run's resolution.
    """
    ratio, channels = pixels_per_latent(request.model), request.vae.latent_channels
    step = size_step(request.model, ratio)
    size = max(step, int(request.config.resolution * share) // step * step)
    photos = shown_references(request.model, request.subjects, size, step, _is_seen(request),
                              lambda _, crop: torch.zeros(channels, crop.size[0] // ratio, crop.size[1] // ratio))
    views = [view for views in photos for view in views]
    return max(views, key=lambda view: sum(latents.numel() for latents in view.latents), default=None)


def _is_seen(request: Request) -> bool:
    """Whether the text encoder looks at reference images; a picture in channels of its own is for the network alone."""
    return not needs_picture(request.model) and sees_pictures(request.clip)


def about_references(request: Request) -> list[str]:
    """What the report says of reference images and masks; nothing of other runs."""
    model, subjects = request.model, request.subjects
    told, count = [], most_references(subjects)
    if count:
        seen = ", which the text encoder looks at too" if _is_seen(request) else ""
        told.append(f"reference images: up to {count} with each photo{seen}")
    if is_inpainting(model):
        own = sum(len(subject.photos) for subject in subjects if subject.data.inpaint_masks)
        every = sum(len(subject.photos) for subject in subjects)
        told.append(f"inpainting model: {own} of {every} photos with their own masks, the others with a full mask"
                    if own else "inpainting model: trained with a full mask, as it is sampled without one")
    return told
