"""How much each noise level counts: min-SNR (arXiv:2303.09556), debiased (arXiv:2310.08442), pseudo-Huber
(arXiv:2403.16728), noise offset, logit-normal levels (arXiv:2403.03206)."""

from __future__ import annotations

from typing import get_args

from comfy_api.v0_0_2 import io

from ..core.objectives import LossWeighting
from ..core.objectives.loss_weighting import Distance, Levels, Weighting
from .bridge.sockets import OBJECTIVE, ObjectiveChain


class LossWeightingNode(io.ComfyNode):
    """Weights, distance, noise and levels to OBJECTIVE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeLossWeighting",
            display_name="Loss Weighting",
            category="personalize",
            description="Which noise levels are drawn and how much each counts, how errors are measured, and how the "
                        "noise is made. The defaults change nothing but the levels, which follow the recipe of the "
                        "model's family. Right for noise, v and flow predictions alike.",
            search_aliases=["min snr gamma", "debiased estimation", "huber loss", "noise offset", "timestep sampling",
                            "logit normal"],
            inputs=[
                io.Combo.Input("weighting", options=list(get_args(Weighting)), default="native",
                               tooltip="Weight of a noise level. native (default): the model's own loss, unweighted. "
                                       "epsilon: as if the noise were predicted. min_snr: levels of little noise count "
                                       "less; usual for faster learning. debiased: levels of much noise count more."),
                io.Float.Input("snr_gamma", default=5.0, min=0.1, max=100.0, step=0.5,
                               tooltip="γ of min_snr, 0.1 to 100: smaller evens out more. Default 5, as in the paper; "
                                       "does nothing otherwise."),
                io.Combo.Input("loss", options=list(get_args(Distance)), default="squared",
                               tooltip="How errors are measured. squared (default); huber: large errors count less, "
                                       "against flaws in single photos."),
                io.Float.Input("huber_c", default=0.1, min=0.001, max=100.0, step=0.05,
                               tooltip="Error at which huber turns from squared to linear, in latent units, 0.001 to "
                                       "100. Default 0.1; does nothing with squared."),
                io.Float.Input("noise_offset", default=0.0, min=0.0, max=1.0, step=0.01,
                               tooltip="Adds a random brightness to the noise, so that very dark and bright pictures "
                                       "are learned, 0 to 1. Default 0; 0.05 to 0.1 is usual. Not for flow models."),
                io.Combo.Input("levels", options=list(get_args(Levels)), default="auto",
                               tooltip="Which noise levels are drawn. auto (default): as the recipe of the model's "
                                       "family says, told in the report; uniform; logit_normal: the middle ones more, "
                                       "usual for flow models (SD3, Flux); noisy: mostly much noise, where the layout "
                                       "is decided; clean: mostly little noise, where the texture is."),
                io.Float.Input("logit_mean", default=0.0, min=-5.0, max=5.0, step=0.1, advanced=True,
                               tooltip="Mean of logit_normal, -5 to 5; above 0 is noisier. Default 0."),
                io.Float.Input("logit_std", default=1.0, min=0.1, max=5.0, step=0.1, advanced=True,
                               tooltip="Deviation of logit_normal, 0.1 to 5. Default 1."),
                io.Float.Input("shift", default=0.0, min=0.0, max=100.0, step=0.1, optional=True, advanced=True,
                               tooltip="Shifts the drawn levels, 0 to 100: above 1 noisier, below 1 cleaner, 1 not at "
                                       "all; of a flow model the noise level itself. 0 (default): with auto as the "
                                       "recipe says for the resolution, otherwise as the model's own table has it."),
                OBJECTIVE.Input("objective", optional=True, tooltip="Another objective, used together with this one."),
            ],
            outputs=[OBJECTIVE.Output("OBJECTIVE", tooltip="For Personalize Trainer, or another objective node.")],
        )

    @classmethod
    def execute(cls, weighting, snr_gamma, loss, huber_c, noise_offset, levels, logit_mean, logit_std,
                shift=0.0, objective=None) -> io.NodeOutput:
        return io.NodeOutput((objective or ObjectiveChain()).extended(LossWeighting(
            weighting=weighting, snr_gamma=snr_gamma, loss=loss, huber_c=huber_c, noise_offset=noise_offset,
            levels=levels, logit_mean=logit_mean, logit_std=logit_std, shift=shift)))
