"""Your subject stays one of its kind: a term that ties the identifier to its class (Lu, Xie, Guo 2024, eq. 3)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.objectives.class_characterizing import ClassCharacterizing
from .bridge.sockets import OBJECTIVE, ObjectiveChain


class ClassCharacterizingNode(io.ComfyNode):
    """α_cl and p_cl to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeClassCharacterizing",
            display_name="Class Characterizing",
            category="personalize",
            description="Keeps 'V dog' close to 'dog' in the space of texts and images, so that one photo does not "
                        "make the identifier forget what a dog can do. The trainer needs an Image-Text Encoder, and "
                        "Token Vectors or Prototypical Embedding (or a trained text encoder) for it to reach.",
            search_aliases=["regularization", "class prior", "one shot", "characterizing"],
            inputs=[
                io.Float.Input("alpha", default=1.0, min=0.0, max=100.0, step=0.05,
                               tooltip="α_cl, weight of the term 1 - α cos, 0 to 100; 0 changes nothing. Default 1, as "
                                       "in the paper."),
                io.Float.Input("probability", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="p_cl, share of steps that have the term, 0 to 1. Default 1, as in the paper."),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, alpha, probability, objective=None) -> io.NodeOutput:
        chain = objective or ObjectiveChain()
        return io.NodeOutput(chain.extended(ClassCharacterizing(weight=alpha, probability=probability)))
