"""The product's own sockets, and the values that travel through them where core has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ...core.errors import require
from ...core.learning.token_vectors import TokenVectorsConfig
from ...core.model.contracts import WordVectors
from ...core.objectives.base import Objective, combine
from ...core.training.validation import ValidationConfig

if TYPE_CHECKING:
    from ...core.store.class_images import ClassImages
    from ...core.subject.subject import Subject

SUBJECT = io.Custom("SUBJECT")
OBJECTS = io.Custom("OBJECTS")
DATA_OPTIONS = io.Custom("DATA_OPTIONS")
PRIOR = io.Custom("PRIOR")
OBJECTIVE = io.Custom("OBJECTIVE")
TOKEN_VECTORS = io.Custom("TOKEN_VECTORS")
OPTIONS = io.Custom("OPTIONS")
PREVIEW = io.Custom("PREVIEW")
VALIDATION = io.Custom("VALIDATION")
PERSONALIZATION = io.Custom("PERSONALIZATION")
DCI_OPTIONS = io.Custom("DCI_OPTIONS")
LORA_MODEL = io.Custom("LORA_MODEL")
LOSS_MAP = io.Custom("LOSS_MAP")
IMAGE_TEXT_ENCODER = io.Custom("IMAGE_TEXT_ENCODER")


@dataclass(frozen=True, kw_only=True)
class ObjectiveChain:
    """What an OBJECTIVE socket carries.

    Attributes:
        objectives: an unordered set of frozen configs.
        class_images: the pools that prior preservation draws from, one per class noun.
    """

    objectives: tuple[Objective, ...] = ()
    class_images: tuple[ClassImages, ...] = ()

    def extended(self, *objectives: Objective, class_images: tuple[ClassImages, ...] = ()) -> ObjectiveChain:
        """The chain with more objectives.

        Raises:
            InputError: when one kind of objective is there twice.
        """
        return ObjectiveChain(objectives=combine((*self.objectives, *objectives)),
                              class_images=(*self.class_images, *class_images))


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenVectorsSettings:
    """What one node puts into TOKEN_VECTORS.

    Attributes:
        identifier: whose vectors; empty = those of every subject.
        config: how they learn; its word is open, and its start text may hold {V} and {noun}.
        vectors: where they start, for each text encoder, where that is given.
    """

    identifier: str
    config: TokenVectorsConfig
    vectors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PreviewSettings:
    """The TrainingPreview node: what is sampled while training, by ComfyUI's own samplers. "auto" and 0 of sampler,
    scheduler, steps and cfg are the recipe's, which the trainer puts in.

    Attributes:
        every: steps between two previews; 0 = after 25, 50 and 75 %. One more is made at the end.
    """

    prompt: str
    negative_prompt: str = ""
    sampler: str = "euler"
    scheduler: str = "normal"
    steps: int = 20
    cfg: float = 7.0
    seed: int = 0
    every: int = 0

    def __post_init__(self) -> None:
        require(bool(self.prompt.strip()), "prompt", "an empty text", "what the preview should show",
                "Write for example 'a {V} dog in the snow'.")
        require(self.steps >= 0, "steps", self.steps, "1 or more sampling steps, or 0", "Use for example 20.")
        require(self.every >= 0, "every", self.every, "0 or more training steps",
                "Use for example 100, or 0 for pictures after 25, 50 and 75 %.")


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationData:
    """By what a run is validated.

    Attributes:
        held_out: photos that are never trained on.
        image_text: gives CLIP-I and CLIP-T.
        dino: gives DINO; from the folder `dino_path`.
    """

    held_out: tuple[Subject, ...] = ()
    image_text: Any = None
    dino: Any = None
    dino_path: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation(ValidationData):
    """The Validation node: how a run is validated, and by what."""

    config: ValidationConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Personalization:
    """What Personalize Trainer made, for Save Personalization.

    Attributes:
        lora: the adapter file's tensors; empty where only words were learned.
        token_vectors: the vectors of each learned identifier, for each text encoder.
        contexts: ICO's contexts, for inspection.
        metadata: the adapter file's metadata.
        file: where the run store keeps it.
        losses: one per step.
        validation: the validation loss by step, where the run was validated.
        report: what happened, for the user.
    """

    lora: dict[str, Tensor]
    metadata: dict[str, Any]
    file: Path
    token_vectors: WordVectors = field(default_factory=dict)
    contexts: WordVectors = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)
    report: str = ""
