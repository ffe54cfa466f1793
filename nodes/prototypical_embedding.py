"""Token vectors that start near the photo and its class, before training (Lu, Xie, Guo 2024, eq. 2)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..core.learning.prototype import PrototypeConfig
from ..core.learning.token_vectors import MOST, TokenVectorsConfig
from .bridge.notices import show_notice
from .bridge.sockets import IMAGE_TEXT_ENCODER, SUBJECT, TOKEN_VECTORS
from .bridge.text.prototypes import looks, prototype_vectors


class PrototypicalEmbedding(io.ComfyNode):
    """SUBJECT and an image-text encoder to TOKEN_VECTORS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizePrototypicalEmbedding",
            display_name="Prototypical Embedding",
            category="personalize",
            description="Fits the identifier's vectors so that 'V dog' lies near the photo, the masked subject and "
                        "'dog' in the joint space of images and texts. The trainer goes on from there; with one photo "
                        "that is a better start than a random or a plain word.",
            search_aliases=["one shot", "prototype", "textual inversion init", "clip inversion"],
            inputs=[
                SUBJECT.Input("subject", tooltip="Photos from Subject Photos; masks make it better."),
                IMAGE_TEXT_ENCODER.Input("image_text", tooltip="Image-Text Encoder: the CLIP that the checkpoint's "
                                                               "text encoder comes from, with both projections."),
                io.Clip.Input("clip", tooltip="The CLIP that will be trained with."),
                io.Int.Input("vectors", default=4, min=1, max=MOST,
                             tooltip="Vectors of the identifier, 1 to 8. Default 4, as in the paper."),
                io.Float.Input("learning_rate", default=5e-4, min=1e-7, max=1.0, step=0.000001, round=False,
                               tooltip="Their learning rate in the trainer afterwards, 1e-7 to 1. Default 5e-4."),
                io.Float.Input("stop_at", default=1.0, min=0.01, max=1.0, step=0.05,
                               tooltip="Fraction of the training run after which they stand still, 0.01 to 1. "
                                       "Default 1."),
                io.Int.Input("fit_steps", default=100, min=1, max=10000, advanced=True,
                             tooltip="Steps of Adam here, 1 to 10000. Default 100."),
                io.Float.Input("fit_rate", default=5e-3, min=1e-6, max=1.0, step=0.0001, round=False, advanced=True,
                               tooltip="Learning rate here, 1e-6 to 1. Default 0.005."),
            ],
            outputs=[
                TOKEN_VECTORS.Output("TOKEN_VECTORS", tooltip="For Personalize Trainer."),
                io.String.Output("report", display_name="report",
                                 tooltip="Cosine of text and target before and after."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, subject, image_text, clip, vectors, learning_rate, stop_at, fit_steps, fit_rate) -> io.NodeOutput:
        config = TokenVectorsConfig(word="{V}", count=vectors, start="given", learning_rate=learning_rate,
                                    stop_at=stop_at)
        fitting, chain, lines = PrototypeConfig(steps=fit_steps, learning_rate=fit_rate), [], []
        for member in looks(subject):
            settings, fitted = prototype_vectors(image_text, clip, member, config, fitting)
            chain.append(settings)
            lines.append(f"{member.identifier}: cosine of '{member.identifier} {member.class_noun}' to photo, object "
                         f"and class {fitted.before:.3f} before, {fitted.after:.3f} after {fit_steps} steps")
        report = "\n".join(lines)
        show_notice(cls.hidden.unique_id, report, [])
        return io.NodeOutput(tuple(chain), report, ui=ui.PreviewText(report))
