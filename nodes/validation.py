"""When to stop: judge a run on photos that it never sees, and hand on its best checkpoint."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io

from ..core.validation import BestBy, ValidationConfig
from .bridge.sockets import SUBJECT, VALIDATION, Validation


class ValidationNode(io.ComfyNode):
    """Held-out photos and settings to VALIDATION."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Validation",
            display_name="Validation",
            category="personalize",
            description="Judges the training on photos of the subject that it never sees, always at the same noise, "
                        "so that the figures can be compared. The trainer hands on the best checkpoint, and may stop "
                        "early.",
            search_aliases=["when to stop", "early stopping", "best checkpoint", "validation loss", "overfitting"],
            inputs=[
                SUBJECT.Input("held_out", tooltip="Subject Photos with other photos of the same subject, under the "
                                                  "same identifier and class noun. One photo is enough."),
                io.Int.Input("every", default=50, min=1, max=100000,
                             tooltip="Steps between two judgements, 1 or more. One costs about a third of as many "
                                     "training steps as draws times photos. Default 50."),
                io.Combo.Input("best_by", options=list(get_args(BestBy)), default="validation_loss",
                               tooltip="The figure that chooses the checkpoint that is handed on. validation_loss "
                                       "(default): smallest loss on the held-out photos; last: the last step."),
                io.Int.Input("patience", default=0, min=0, max=1000,
                             tooltip="Judgements without a better figure after which training ends, 0 to 1000; "
                                     "0 (default) = never."),
                io.Int.Input("draws", default=8, min=1, max=1000, advanced=True,
                             tooltip="Noise levels per photo, 1 or more, spread evenly over the schedule. More are "
                                     "steadier and cost more. Default 8."),
            ],
            outputs=[VALIDATION.Output("VALIDATION", tooltip="For Personalize Trainer.")],
        )

    @classmethod
    def execute(cls, held_out, every, best_by, patience, draws) -> io.NodeOutput:
        config = ValidationConfig(every=every, draws=draws, best_by=best_by, patience=patience)
        return io.NodeOutput(Validation(config=config, held_out=tuple(held_out)))
