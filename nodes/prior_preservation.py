"""The class stays what it was: class images beside the photos (DreamBooth, arXiv:2208.12242, eq. 2), or the base
model's own predictions."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.errors import require
from ..core.objectives import BasePrior, PriorPreservation
from ..core.objectives.base import Objective
from ..core.objectives.base_prior import PriorPrompt
from .bridge.sockets import OBJECTIVE, PRIOR, ObjectiveChain

IMAGES, BASE, BOTH = "class images", "base model", "both"
PROMPTS: dict[str, PriorPrompt] = {"class prompt": "class", "whole caption": "caption"}


class PriorPreservationNode(io.ComfyNode):
    """PRIOR and λ to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizePriorPreservation",
            display_name="Prior Preservation",
            category="personalize",
            description="Keeps 'a dog' any dog while 'a sks dog' becomes yours: by class images beside the photos, or "
                        "without any, by the model's own predictions.",
            search_aliases=["class images", "regularization images", "dreambooth prior", "dop",
                            "differential output preservation"],
            inputs=[
                PRIOR.Input("prior", optional=True,
                            tooltip="Class images from Class Images, or your own from Regularization Images, one "
                                    "pool for each class noun. Not needed when source is base model."),
                io.Combo.Input("source", options=[IMAGES, BASE, BOTH], default=IMAGES,
                               tooltip="What keeps the class. class images (default): DreamBooth's, one image beside "
                                       "each photo. base model: what the untrained model predicts for the photo under "
                                       "'a {noun}'; no images, a little slower. both: the two together."),
                io.Float.Input("weight", default=1.0, min=0.01, max=100.0, step=0.05,
                               tooltip="λ, weight of the prior's loss (of each, with both), above 0. Default 1, as in "
                                       "the paper; more keeps the class better and learns the subject more slowly."),
                io.Combo.Input("base_prompt", options=list(PROMPTS), default="class prompt", optional=True,
                               advanced=True,
                               tooltip="Under which text the base model is the prior (base model, both). class prompt "
                                       "(default): 'a {noun}'. whole caption: the photo's caption with the class noun "
                                       "in place of the identifier (differential output preservation)."),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, source, weight, prior=None, base_prompt="class prompt", objective=None) -> io.NodeOutput:
        require(source == BASE or bool(prior), "prior", f"no class images for the source {source!r}",
                "class images from Class Images or Regularization Images", "Connect it, or choose base model.")
        require(source != BASE or not prior, "prior", "class images that the source base model does not use",
                "no class images", "Choose both, or disconnect them.")
        chosen: list[Objective] = []
        if source != BASE:
            chosen.append(PriorPreservation(weight=weight))
        if source != IMAGES:
            chosen.append(BasePrior(weight=weight, prompt=PROMPTS[base_prompt]))
        chain = objective or ObjectiveChain()
        return io.NodeOutput(chain.extended(*chosen, class_images=tuple(prior or ())))
