"""Pictures without your subject's name stay the base model's: the empty prompt keeps its prediction (ai-toolkit's
blank-prompt preservation)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.objectives import BlankPromptPreservation
from .bridge.sockets import OBJECTIVE, ObjectiveChain


class BlankPromptPreservationNode(io.ComfyNode):
    """λ and p to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeBlankPromptPreservation",
            display_name="Blank Prompt Preservation",
            category="personalize",
            description="Keeps what the model draws without a prompt, which guidance (cfg) pushes away from: it is "
                        "held to the base model's own prediction for your photos. Needs no images.",
            search_aliases=["bpp", "empty prompt", "unconditional", "cfg", "output preservation"],
            inputs=[
                io.Float.Input("weight", default=1.0, min=0.01, max=100.0, step=0.05,
                               tooltip="λ, weight of the term, above 0. Default 1."),
                io.Float.Input("probability", default=1.0, min=0.01, max=1.0, step=0.05,
                               tooltip="p, share of the batches that have the term, above 0 up to 1. Default 1; less "
                                       "costs less time and counts less."),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, weight, probability, objective=None) -> io.NodeOutput:
        chain = objective or ObjectiveChain()
        return io.NodeOutput(chain.extended(BlankPromptPreservation(weight=weight, probability=probability)))
