"""The class stays what it was: class images beside the photos (DreamBooth, arXiv:2208.12242, eq. 2)."""

from __future__ import annotations

from comfy_api.latest import io

from ..core.objectives import PriorPreservation
from .bridge.sockets import OBJECTIVE, PRIOR, ObjectiveChain


class PriorPreservationNode(io.ComfyNode):
    """PRIOR and λ to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PriorPreservation",
            display_name="Prior Preservation",
            category="personalize",
            description="Trains on class images beside the photos, so that 'a dog' stays any dog while 'a sks dog' "
                        "becomes yours.",
            search_aliases=["class images", "regularization images", "dreambooth prior"],
            inputs=[
                PRIOR.Input("prior", tooltip="Class images from Prior Sample Gen, one pool for each class noun."),
                io.Float.Input("weight", default=1.0, min=0.01, max=100.0, step=0.05,
                               tooltip="λ, weight of the class images' loss, above 0. Default 1, as in the paper; more "
                                       "keeps the class better and learns the subject more slowly."),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, prior, weight, objective=None) -> io.NodeOutput:
        chain = objective or ObjectiveChain()
        return io.NodeOutput(chain.extended(PriorPreservation(weight=weight), class_images=tuple(prior)))
