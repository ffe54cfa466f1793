"""Only the subject counts: masks in the loss, the background kept, and the object-specific loss of one-shot training.

Object-specific loss: Lu, Xie, Guo 2024, "Object-Driven One-Shot Fine-tuning of Text-to-Image Diffusion with
Prototypical Embedding", eqs. 4 and 5.
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.objectives import MaskedLoss, MaskedPrior, ObjectSpecificLoss
from .bridge.sockets import OBJECTIVE, ObjectiveChain

IGNORE, WEIGHT, KEEP = "ignore", "weight", "keep the base model's"


class MaskedLossNode(io.ComfyNode):
    """Mask settings to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MaskedLoss",
            display_name="Masked Loss",
            category="personalize",
            description="Learns the masked subject and not its background. Every photo needs a mask. The object term "
                        "adds the one-shot paper's loss on the subject alone; it is what makes one photo enough, and "
                        "what tells several objects in one photo apart.",
            search_aliases=["mask", "one shot", "background", "object specific loss", "masked prior"],
            inputs=[
                io.Combo.Input("background", options=[IGNORE, WEIGHT, KEEP], default=IGNORE,
                               tooltip="What the background outside the masks does. ignore (default): nothing. weight: "
                                       "it is learned by background_weight; the object term wants this with 1. keep "
                                       "the base model's: it is held to what the untrained model predicts, by "
                                       "background_weight."),
                io.Float.Input("background_weight", default=1.0, min=0.01, max=1.0, step=0.05,
                               tooltip="How much the background counts, 0.01 to 1. Default 1. Does nothing when it is "
                                       "ignored."),
                io.Float.Input("normalise_floor", default=0.1, min=0.01, max=1.0, step=0.01,
                               tooltip="The loss is divided by the masked share of the image, but by no less than "
                                       "this, 0.01 to 1; 1 = no division. Default 0.1."),
                io.Int.Input("dilation", default=0, min=0, max=512,
                             tooltip="Pixels at training resolution by which masks are grown first. Default 0."),
                io.Boolean.Input("object_term", default=False,
                                 tooltip="Add the object-specific loss (eqs. 4 and 5): rows that show each cut-out "
                                         "object alone under 'a {V} {noun}'. Default off."),
                io.Float.Input("object_weight", default=1.0, min=0.01, max=100.0, step=0.05,
                               tooltip="Weight of the object term, above 0. Default 1, as in the paper."),
                io.Int.Input("objects_per_step", default=2, min=1, max=8,
                             tooltip="Of several objects in one photo (Scene Photo), how many random ones are shown "
                                     "alone in a step, 1 to 8. Default 2; one row more per object."),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, background, background_weight, normalise_floor, dilation, object_term, object_weight,
                objects_per_step, objective=None) -> io.NodeOutput:
        chain = (objective or ObjectiveChain()).extended(MaskedLoss(
            background_weight=0.0 if background == IGNORE else background_weight, normalise_floor=normalise_floor,
            dilation=dilation))
        if background == KEEP:
            chain = chain.extended(MaskedPrior(dilation=dilation))
        if object_term:
            chain = chain.extended(ObjectSpecificLoss(weight=object_weight, dilation=dilation,
                                                      objects_per_step=objects_per_step))
        return io.NodeOutput(chain)
