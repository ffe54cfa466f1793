"""One training run, settled before a model is loaded: what its checks found out, for all that comes after them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from ....core.data.examples import TrainingData
from ....core.learning.adapter import programs_for_layers
from ....core.learning.token_vectors import TokenVectorsConfig
from ....core.training.optimizer import choose_optimizer
from .key import Hashes, hashes_of, key_of
from .request import Request

AnyRequest = TypeVar("AnyRequest", bound=Request)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(Generic[AnyRequest]):
    """A request that has passed its checks.

    Attributes:
        request: what the node was given.
        hashes: of MODEL, CLIP, VAE and photos.
        optimizer: what "auto" stands for on this machine.
        key: the run's, under which its files are found.
        programs: those that read an adapter file of this kind and family.
    """

    request: AnyRequest
    hashes: Hashes
    optimizer: str
    key: str
    programs: tuple[str, ...]

    def describe(self, step: int, exposure: str, names: Iterable[str]) -> dict[str, Any]:
        """What the adapter file of a step, with tensors of these names, says about itself."""
        subjects = self.request.subjects
        return {
            "version": 1,
            "identifiers": [identifier for subject in subjects for identifier, _ in subject.names],
            "class_nouns": [noun for subject in subjects for _, noun in subject.names],
            "captions": [subject.caption for subject in subjects],
            "data_options": [asdict(subject.data) for subject in subjects],
            "base_model_hash": self.hashes.model,
            "text_encoder_hash": self.hashes.text_encoder,
            "config": self.request.config.to_dict() | {"steps": step},
            "data_hash": self.hashes.data,
            "steps": step,
            "exposure": exposure,
            "readers": "; ".join(programs_for_layers(self.programs, names)),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainerPlan(Plan[Request]):
    """What PersonalizeTrainer does.

    Attributes:
        data: what is trained on, as the objectives want it, about blank latents of the photos.
        token_vectors: all that the run learns.
        memory: bytes to leave free beside the loaded models.
    """

    data: TrainingData
    token_vectors: tuple[TokenVectorsConfig, ...]
    memory: float

    @property
    def learns_text(self) -> bool:
        """Whether gradients flow through the text encoder."""
        return self.request.is_text_trained or bool(self.token_vectors)


def make_plan(request: AnyRequest, programs: tuple[str, ...]) -> Plan[AnyRequest]:
    """The plan of a request, whose models are hashed for it."""
    optimizer = choose_optimizer(request.config.options, request.model.load_device.type)
    hashes = hashes_of(request)
    return Plan(request=request, hashes=hashes, optimizer=optimizer, key=key_of(request, hashes, optimizer),
                programs=programs)
