"""The nodes, and the extension that ComfyUI loads."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from .dci_conditioning import DCIConditioning
from .examples import list_example_personalizations, provide_example_photos
from .identifier_picker import IdentifierPicker
from .load_personalization import LoadPersonalization
from .masked_loss import MaskedLossNode
from .personalize_trainer import PersonalizeTrainer
from .prior_preservation import PriorPreservationNode
from .prior_sample_gen import PriorSampleGen
from .save_personalization import SavePersonalization
from .subject_photos import SubjectPhotos
from .training_options import TrainingOptionsNode
from .training_preview import TrainingPreview

NODES: list[type[io.ComfyNode]] = [
    IdentifierPicker,
    SubjectPhotos,
    PriorSampleGen,
    PriorPreservationNode,
    MaskedLossNode,
    TrainingOptionsNode,
    TrainingPreview,
    PersonalizeTrainer,
    SavePersonalization,
    LoadPersonalization,
    DCIConditioning,
]


class PersonalizeExtension(ComfyExtension):
    """Registers the pocket model before any loader looks for it, then hands over the nodes."""

    async def on_load(self) -> None:
        try:
            from .pocket_model import register_pocket

            register_pocket()
        except Exception:  # the nodes work on any other checkpoint, so start-up must go on
            logging.exception("The pocket checkpoint is not available; every other checkpoint works.")
        try:
            list_example_personalizations()
            provide_example_photos()
        except OSError as error:  # a read-only input folder must not stop the nodes
            logging.warning("The example photos could not be copied: %s", error)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
