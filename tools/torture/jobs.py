"""The runs that are tortured: real nodes on the tiny model, from photos to the saved personalization, in a second.

Import it where ComfyUI can be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ...nodes.personalize_trainer import PersonalizeTrainer
from ...nodes.prior_preservation import PriorPreservationNode
from ...nodes.prior_sample_gen import PriorSampleGen
from ...nodes.save_personalization import SavePersonalization
from ...nodes.subject_photos import SubjectPhotos
from ...nodes.token_vectors import TokenVectors
from ...nodes.training_options import TrainingOptionsNode
from ...nodes.training_preview import TrainingPreview
from .rig import JOB_NAMES, RUN, STEPS

SAVE_EVERY, SIZE = 2, 64
Models = tuple[Any, Any, Any]


def call(node: type[io.ComfyNode], **inputs: Any) -> tuple[Any, ...]:
    """A node's outputs; widgets that are not named have their defaults."""
    schema, defaults = node.define_schema(), {}
    for slot in schema.inputs:
        default = getattr(slot, "default", None)
        if default is None and getattr(slot, "options", None):
            default = slot.options[0]
        if default is not None:
            defaults[slot.id] = [default] if schema.is_input_list else default
    clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "7"}})
    return clone.EXECUTE_NORMALIZED(**defaults | inputs).args


def subject(photos: int = 2) -> Any:
    """SUBJECT of random photos."""
    generator = torch.Generator().manual_seed(0)
    images = {f"image{number}": [torch.rand(1, 72, 96, 3, generator=generator)] for number in range(photos)}
    return call(SubjectPhotos, images=images, identifier=["sks"], class_noun=["dog"])[0]


def class_images(models: Models, **changes: Any) -> Any:
    """PRIOR of a few class images."""
    model, clip, vae = models
    return call(PriorSampleGen, **{"model": model, "clip": clip, "vae": vae, "class_noun": "dog", "count": 4,
                                   "size": SIZE, "steps": 2, "batch": 2} | changes)[0]


def train(models: Models, steps: int = STEPS, **inputs: Any) -> tuple[Any, ...]:
    """Personalize Trainer's outputs."""
    model, clip, vae = models
    return call(PersonalizeTrainer, **{"model": model, "clip": clip, "vae": vae, "subject": subject(), "steps": steps,
                                       "learning_rate": 1e-3, "resolution": SIZE, "seed": 1, "run_name": RUN} | inputs)


def options(**changes: Any) -> Any:
    """OPTIONS that save often."""
    return call(TrainingOptionsNode, **{"save_every": SAVE_EVERY, "rank": 4, "alpha": 4.0} | changes)[0]


def lora(models: Models, steps: int = STEPS) -> tuple[Any, ...]:
    """LoRA with text encoder, class images and previews."""
    prior = call(PriorPreservationNode, prior=class_images(models))[0]
    preview = call(TrainingPreview, prompt="a sks dog", steps=2, every=3)[0]
    return train(models, steps, objective=prior, preview=preview, options=options(text_encoder_rate=1e-4))


def dora(models: Models, steps: int = STEPS) -> tuple[Any, ...]:
    """DoRA with a moving average of the weights and accumulation."""
    return train(models, steps, options=options(kind="dora", ema_decay=0.9, accumulation=2))


def full_weights(models: Models, steps: int = STEPS) -> tuple[Any, ...]:
    """All weights of the attention layers."""
    return train(models, steps, options=options(kind="full"))


def textual_inversion(models: Models, steps: int = STEPS) -> tuple[Any, ...]:
    """Token vectors alone; the network stays."""
    words = call(TokenVectors, identifier="sks")[0]
    return train(models, steps, token_vectors=words, options=options(train_unet=False))


JOBS: Mapping[str, Callable[..., tuple[Any, ...]]] = dict(
    zip(JOB_NAMES, (lora, dora, full_weights, textual_inversion), strict=True))


def run_job(name: str, models: Models, steps: int = STEPS) -> str:
    """Train and save; the trainer's report."""
    outputs = JOBS[name](models, steps)
    if name != "full weights":
        call(SavePersonalization, personalization=outputs[5], name="tortured")
    return outputs[6]


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Same names, the same bits."""
    return first.keys() == second.keys() and all(
        first[name].cpu().contiguous().view(torch.uint8).equal(second[name].cpu().contiguous().view(torch.uint8))
        for name in first)
