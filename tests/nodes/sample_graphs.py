"""The graphs whose files are kept as samples, and many more whose run keys are; see tests/samples/README.md.

What a graph says here must never change: its key stands in files that users have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_node import run_node
from trainer_rig import photos, subjects

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig
from comfyui_personalize.core.objectives import (
    BasePrior,
    LossWeighting,
    MaskedLoss,
    MaskedPrior,
    ObjectSpecificLoss,
    PriorPreservation,
)
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.store.class_images import ClassImages, PriorRecipe
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.validation import ValidationConfig
from comfyui_personalize.nodes.bridge.dci.noun_evidence import EvidenceModels, gather
from comfyui_personalize.nodes.bridge.sampling.class_images import model_digest, text_encoder_digest
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain, TokenVectorsSettings, Validation
from comfyui_personalize.nodes.bridge.training.plan import make_plan
from comfyui_personalize.nodes.bridge.training.request import Request
from comfyui_personalize.nodes.bridge.training.token_vectors import vectors_of_subjects
from comfyui_personalize.nodes.prior_sample_gen import PriorSampleGen

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SHORT, LONG = 2, 4
"""Steps of the run that is kept, and of the longer one whose result the kept one must reach."""
CLASS_IMAGES = {"class_noun": "dog", "count": 3, "size": 64, "sampler": "euler_ancestral", "scheduler": "normal",
                "steps": 2, "cfg": 2.0, "seed": 5, "batch": 2, "shown": 1}
SMALL = AdapterConfig(rank=1, targets="cross_attention_kv")
WORDS = (TokenVectorsSettings(identifier="", config=TokenVectorsConfig(word="sks", count=2, start_text="{noun}",
                                                              learning_rate=0.05)),)


def class_images(models: tuple[Any, Any, Any], **changes: Any) -> tuple[ClassImages, ...]:
    """The pool of class images, from ComfyUI's output folder where it lies there."""
    model, clip, vae = models
    return run_node(PriorSampleGen, model=model, clip=clip, vae=vae, prior=None, **CLASS_IMAGES | changes)[0]


def noun_evidence(models: tuple[Any, Any, Any]) -> float:
    """The evidence for a noun in a context, from ComfyUI's output folder where it lies there."""
    model, clip, vae = models
    recipe = PriorRecipe(model=model_digest(model), text_encoder=text_encoder_digest(clip), prompt="a dog", size=64,
                         sampler="euler", scheduler="normal", steps=2, cfg=2.0, seed=5)
    source = EvidenceModels(model=model, clip=clip, vae=vae, pictures=recipe, count=1)
    (found,) = gather(source, {"dog": "a dog on a beach"})
    return found.scored.score


def trained_graphs(models: tuple[Any, Any, Any]) -> dict[str, dict[str, Any]]:
    """What the trainer is given, by the name of the run: an adapter, everything at once, weights, words alone."""
    everything = ObjectiveChain(objectives=(PriorPreservation(), MaskedLoss(), LearnedContexts(identifier_vectors=0)),
                                class_images=class_images(models))
    judged = Validation(config=ValidationConfig(every=1, draws=2, best_by="last"),
                        held_out=subjects(photos=photos(1, seed=7)))
    full = AdapterConfig(kind="full", targets=r"middle_block\.1\..*attn2\.to_k")
    return {
        "adapter": {"options": TrainingOptions(adapter=SMALL)},
        "everything": {"options": TrainingOptions(adapter=SMALL, text_encoder_rate=1e-3, ema_decay=0.9),
                       "objective": everything, "token_vectors": WORDS, "validation": judged,
                       "subject": subjects(photos=photos(masked=True), data=DataOptions(flip=True))},
        "weights": {"options": TrainingOptions(adapter=full)},
        "words": {"options": TrainingOptions(trains_denoiser=False), "token_vectors": WORDS},
    }


def request(models: tuple[Any, Any, Any], *, objective: ObjectiveChain | None = None, subject: Any = None,
            token_vectors: Any = (), options: TrainingOptions | None = None, validation: Validation | None = None,
            sample_with: Any = None, preview: Any = None, **changes: Any) -> Request:
    """What the trainer node makes of these inputs."""
    chain, subject = objective or ObjectiveChain(), subject or subjects()
    words, starts = vectors_of_subjects(token_vectors, subject)
    config = TrainingConfig(**{"steps": 5, "resolution": 64} | changes, options=options or TrainingOptions(),
                            objectives=chain.objectives, token_vectors=words,
                            validation=validation.config if validation else None)
    return Request(model=models[0], clip=models[1], vae=models[2], subjects=tuple(subject), config=config,
                   run_name="key", class_images=chain.class_images, validation=validation, starts=starts,
                   sample_with=sample_with, preview=preview)


def keys(models: tuple[Any, Any, Any]) -> dict[str, str]:
    """The run keys of many graphs, by name."""
    return {name: make_plan(request(models, **inputs), ()).key for name, inputs in _untrained_graphs(models).items()}


def _untrained_graphs(models: tuple[Any, Any, Any]) -> dict[str, dict[str, Any]]:
    masked = subjects(photos=photos(masked=True))
    pool = class_images(models)
    kinds = {f"kind {kind}": {"options": TrainingOptions(adapter=AdapterConfig(kind=kind))}
             for kind in ("rslora", "dora", "lokr", "loha", "oft", "full")}
    losses = {f"objective {objective.kind}": {"subject": masked, "objective": ObjectiveChain(objectives=(objective,))}
              for objective in (MaskedLoss(), MaskedPrior(), BasePrior(), LossWeighting(), ObjectSpecificLoss(),
                                LearnedContexts())}
    options = {f"options {name}": {"options": TrainingOptions(**{name: value})} for name, value in {
        "optimizer": "adafactor", "weight_decay": 0.1, "lr_schedule": "cosine", "max_grad_norm": 0.0,
        "ema_decay": 0.99, "precision": "bf16", "accumulation": 2, "text_encoder_rate": 1e-5}.items()}
    data = {f"data {name}": {"subject": subjects(data=DataOptions(**{name: value}))} for name, value in {
        "shape": "buckets", "repeats": 2, "flip": True, "views": 2, "caption_dropout": 0.3}.items()}
    return kinds | losses | options | data | {
        "defaults": {}, "masks": {"subject": masked}, "rate": {"learning_rate": 1e-3}, "batch": {"batch": 2},
        "prior": {"objective": ObjectiveChain(objectives=(PriorPreservation(),), class_images=pool)},
        "words": {"token_vectors": WORDS},
        "judged": {"validation": Validation(config=ValidationConfig(), held_out=subjects(photos=photos(1, seed=7)))},
        "two subjects": {"subject": (*subjects(), *subjects(identifier="xq zt", photos=photos(1, seed=3)))},
    }
