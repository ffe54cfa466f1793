"""What a training run is asked for, and the data that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from ....core.data.examples import Example, TrainingData
from ....core.model.contracts import WordVectors
from ....core.objectives.base import most_rows
from ....core.store.class_images import ClassImages
from ....core.subject.subject import Subject
from ....core.training.config import TrainingConfig
from ....core.wording import fold
from ..model.latent_shapes import batch_in_model_space
from ..photos.latents import PhotoLatents, make_examples
from ..sockets import PreviewSettings, ValidationData


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Everything that PersonalizeTrainer was given.

    Attributes:
        class_images: the pools of its OBJECTIVE.
        sample_with: a MODEL of the same layers for previews and everything after the training; None = the trained one.
    """

    model: Any
    clip: Any
    vae: Any
    subjects: tuple[Subject, ...]
    config: TrainingConfig
    run_name: str
    class_images: tuple[ClassImages, ...] = ()
    preview: PreviewSettings | None = None
    validation: ValidationData | None = None
    starts: WordVectors = field(default_factory=dict)
    image_text: Any = None
    sample_with: Any = None

    @property
    def sampling_model(self) -> Any:
        """The MODEL that pictures are sampled with, and that is handed on."""
        return self.model if self.sample_with is None else self.sample_with

    @property
    def is_text_trained(self) -> bool:
        return self.config.options.text_encoder_rate > 0

    @property
    def rows(self) -> int:
        """Rows of the largest forward: the subject's, and those that objectives add."""
        batch, objects = self.config.batch, max(len(subject.names) for subject in self.subjects)
        return most_rows(self.config.objectives, batch, objects)

    @cached_property
    def used_class_images(self) -> tuple[ClassImages, ...]:
        """The pools that an objective draws from."""
        is_used = any(objective.needs_class_images for objective in self.config.objectives)
        return self.class_images if is_used else ()


def training_data(request: Request, latents: PhotoLatents) -> TrainingData:
    """Photos (raw VAE latents of all views) and class images, all in the model's latent space."""
    dilations = {objective.mask_dilation for objective in request.config.objectives if objective.needs_masks} - {0}
    with torch.inference_mode(False), torch.no_grad():
        examples = make_examples(request.model, request.subjects, latents, request.config.resolution, dilations)
        spelled = {noun: pool for pool in request.used_class_images for noun in _spelled_nouns(pool, examples)}
        pools = {noun: batch_in_model_space(request.model, pool.latents) for noun, pool in spelled.items()}
    return TrainingData(examples=examples, class_latents=pools,
                        class_prompts={noun: pool.prompt for noun, pool in spelled.items()},
                        class_captions={noun: pool.captions for noun, pool in spelled.items() if pool.captions})


def _spelled_nouns(pool: ClassImages, examples: Sequence[Example]) -> list[str]:
    """A pool's noun as the subjects write it, in whatever case; its own where no subject has it."""
    nouns = dict.fromkeys(noun for example in examples for noun in example.nouns)
    return [noun for noun in nouns if fold(noun) == fold(pool.class_noun)] or [pool.class_noun]
