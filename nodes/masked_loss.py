"""Only the subject counts: masks in the loss, and the object-specific loss of one-shot training.

Object-specific loss: Lu, Xie, Guo 2024, "Object-Driven One-Shot Fine-tuning of Text-to-Image Diffusion with
Prototypical Embedding", eq. 4.
"""

from __future__ import annotations

from comfy_api.latest import io

from ..core.objectives import MaskedLoss, ObjectSpecificLoss
from .bridge.sockets import OBJECTIVE, ObjectiveChain


class MaskedLossNode(io.ComfyNode):
    """Mask settings to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskedLoss",
            display_name="Masked Loss",
            category="personalize",
            description="Learns the masked subject and not its background. Every photo needs a mask. The object term "
                        "adds the one-shot paper's loss on the subject alone; it is what makes one photo enough.",
            search_aliases=["mask", "one shot", "background", "object specific loss"],
            inputs=[
                io.Float.Input("background_weight", default=0.0, min=0.0, max=1.0, step=0.05,
                               tooltip="How much the background counts, 0 to 1; 1 turns the plain mask off. Default 0. "
                                       "The object term wants 1: it needs the whole image beside it."),
                io.Float.Input("normalise_floor", default=0.1, min=0.01, max=1.0, step=0.01,
                               tooltip="The loss is divided by the masked share of the image, but by no less than "
                                       "this, 0.01 to 1; 1 = no division. Default 0.1."),
                io.Int.Input("dilation", default=0, min=0, max=512,
                             tooltip="Pixels at training resolution by which masks are grown first. Default 0."),
                io.Boolean.Input("object_term", default=False,
                                 tooltip="Add the object-specific loss (eq. 4): as many rows more per batch, showing "
                                         "the cut-out subject under 'a {V} {noun}'. Default off."),
                io.Float.Input("object_weight", default=1.0, min=0.01, max=100.0, step=0.05,
                               tooltip="Weight of the object term, above 0. Default 1, as in the paper."),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, background_weight, normalise_floor, dilation, object_term, object_weight,
                objective=None) -> io.NodeOutput:
        chain = (objective or ObjectiveChain()).extended(MaskedLoss(
            background_weight=background_weight, normalise_floor=normalise_floor, dilation=dilation))
        if object_term:
            chain = chain.extended(ObjectSpecificLoss(weight=object_weight, dilation=dilation))
        return io.NodeOutput(chain)
