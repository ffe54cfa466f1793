"""When to stop: validate a run on photos that it never sees, and hand on its best checkpoint."""

from __future__ import annotations

from typing import get_args

from comfy_api.v0_0_2 import io

from ..core.evaluation.metrics import load_image_encoder
from ..core.training.validation import BestBy, ValidationConfig
from .bridge.sockets import IMAGE_TEXT_ENCODER, SUBJECT, VALIDATION, Validation


class ValidationNode(io.ComfyNode):
    """Held-out photos and settings to VALIDATION."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeValidation",
            display_name="Validation",
            category="personalize",
            description="Validates the training on photos of the subject that it never sees, always at the same noise, "
                        "so that the figures can be compared. The trainer hands on the best checkpoint, and may stop "
                        "early.",
            search_aliases=["when to stop", "early stopping", "best checkpoint", "validation loss", "overfitting"],
            inputs=[
                SUBJECT.Input("held_out", optional=True,
                              tooltip="Subject Photos with other photos of the same subject, under the same identifier "
                                      "and class noun. One photo is enough; validation_loss needs it."),
                io.Int.Input("every", default=50, min=1, max=100000,
                             tooltip="Steps between two validations, 1 or more. One costs about a third of as many "
                                     "training steps as draws times photos. Default 50."),
                io.Combo.Input("best_by", options=list(get_args(BestBy)), default="validation_loss",
                               tooltip="The figure that chooses the checkpoint that is handed on. validation_loss "
                                       "(default): smallest loss on the held-out photos; clip_i, clip_t, dino: largest "
                                       "of pictures made by Training Preview's settings; last: the last step."),
                io.Int.Input("patience", default=0, min=0, max=1000,
                             tooltip="Validations without a better figure after which training ends, 0 to 1000; "
                                     "0 (default) = never."),
                io.Int.Input("draws", default=8, min=1, max=1000, advanced=True,
                             tooltip="Noise levels per photo, 1 or more, spread evenly over the schedule. More are "
                                     "steadier and cost more. Default 8."),
                io.Int.Input("pictures", default=4, min=1, max=64, advanced=True,
                             tooltip="Pictures per validation for clip_i, clip_t and dino, 1 to 64, at as many seeds. "
                                     "Default 4."),
                io.String.Input("dino_path", default="", advanced=True,
                                tooltip="Folder of a transformers DINO, which gives the figure dino. Empty (default): "
                                        "none."),
                IMAGE_TEXT_ENCODER.Input("image_text", optional=True,
                                         tooltip="Image-Text Encoder, which gives the figures clip_i and clip_t."),
            ],
            outputs=[VALIDATION.Output("VALIDATION", tooltip="For Personalize Trainer.")],
        )

    @classmethod
    def execute(cls, every, best_by, patience, draws, pictures, dino_path, held_out=(),
                image_text=None) -> io.NodeOutput:
        config = ValidationConfig(every=every, draws=draws, best_by=best_by, patience=patience, pictures=pictures)
        path = dino_path.strip()
        dino = load_image_encoder(path) if path else None
        return io.NodeOutput(Validation(config=config, held_out=tuple(held_out or ()), image_text=image_text, dino=dino,
                                        dino_path=path))
