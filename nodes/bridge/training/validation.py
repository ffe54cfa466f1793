"""How a run is validated while it trains: what is refused, and the figures of its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ....core.errors import require
from ....core.evaluation.metrics import image_similarity, prompt_alignment, without_identifier
from .request import Request

OF_PICTURES = ("clip_i", "clip_t", "dino")


def check_validation(request: Request) -> None:
    """Raise `InputError` where the run cannot be validated as asked."""
    config, held_out = request.config.validation, request.validation.held_out if request.validation else ()
    if config is None or request.validation is None:
        return
    require(bool(held_out) or config.best_by in (*OF_PICTURES, "last"), "held_out", "no photo",
            "1 or more photos beside those trained on",
            "Connect Subject Photos with photos of the subject that the trainer does not get.")
    trained = {photo.digest for subject in request.subjects for photo in subject.photos}
    twice = sum(photo.digest in trained for subject in held_out for photo in subject.photos)
    require(not twice, "held_out", f"{twice} photos that are trained on, too", "photos that are never trained on",
            "Take them out of one of the two Subject Photos.")
    needed = {"clip_i": request.validation.image_text, "clip_t": request.validation.image_text,
              "dino": request.validation.dino}
    if config.best_by in needed:
        fix = "Give Validation a dino_path." if config.best_by == "dino" else "Connect Image-Text Encoder."
        require(needed[config.best_by] is not None, "best_by", repr(config.best_by),
                "an encoder that gives this figure", fix)
        require(request.preview is not None, "best_by", repr(config.best_by), "pictures to look at",
                "Connect Training Preview to the trainer: its prompt and sampler make them.")


def wants_pictures(request: Request) -> bool:
    """Whether a validation looks at pictures: there are encoders, and a preview that says what is sampled."""
    validation = request.validation is not None and (request.validation.image_text or request.validation.dino)
    return bool(validation) and request.preview is not None


def picture_figures(request: Request, pictures: Sequence[Tensor]) -> dict[str, float]:
    """CLIP-I, CLIP-T and DINO of pictures (H, W, 3) of the preview's prompt, as far as there are encoders.

    References are the held-out photos, or those trained on where none are held out.
    """
    assert request.validation is not None and request.preview is not None  # see `wants_pictures`
    subjects = request.validation.held_out or request.subjects
    references = [photo.pixels for subject in subjects for photo in subject.photos]
    figures = {}
    if request.validation.image_text is not None:
        prompt = request.preview.prompt
        for subject in request.subjects:
            prompt = without_identifier(prompt, subject.identifier)
        figures["clip_i"] = image_similarity(request.validation.image_text, pictures, references)
        figures["clip_t"] = prompt_alignment(request.validation.image_text, pictures, [prompt])
    if request.validation.dino is not None:
        figures["dino"] = image_similarity(request.validation.dino, pictures, references)
    return figures
