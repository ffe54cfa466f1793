"""DCI's sampling half: a MODEL that samples with two branches (Jin et al., "Customized Generation Reimagined",
ECCV 2024).
"""

from __future__ import annotations

from dataclasses import replace

from comfy_api.v0_0_2 import io

from ..core.dci.config import DCIConfig
from ..core.dci.window import AUTOMATIC, given_window
from .bridge.dci.dual_branch import patch_dual_branch, sites_of
from .bridge.dci.mixing_sites import warnings_about
from .bridge.notices import show_notice
from .bridge.sockets import DCI_OPTIONS

WINDOW = ("Part of the sampling, from pure noise on, in which both pictures are drawn, 0 to 1; the paper's window. To "
          "switch DCI off set it to 0 (strength 0 still mixes). -1 (default): by the latent's size, also the masks' "
          "sharpening; at 512 x 512 pixels that is 0.3, as published.")


class DCIModel(io.ComfyNode):
    """MODEL to MODEL: wherever its positive prompt is from DCI Encode, it samples with an auxiliary branch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeDCIModel",
            display_name="DCI Model",
            category="personalize",
            description="Samples prompts from DCI Encode or DCI Conditioning with two branches; with other prompts the "
                        "model samples as before. One of these serves any number of prompts.",
            search_aliases=["dual branch", "divide conquer integrate", "patch model", "omega"],
            inputs=[
                io.Model.Input("model", tooltip="The personalized model: SD 1.x, SD 2.x, SDXL, pocket. Experimental: "
                                            "diffusion transformers (SD3, Flux, Z-Image, Qwen-Image and others)."),
                *mixing_inputs(),
            ],
            outputs=[io.Model.Output(tooltip="The model, sampling with two branches.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, omega, window, shared_guidance, options=None) -> io.NodeOutput:
        config = replace(options or DCIConfig(), omega=omega, window=given_window(window),
                         shared_guidance=shared_guidance)
        patched = patch_dual_branch(model, config)
        sites = sites_of(patched)
        show_notice(cls.hidden.unique_id, f"two branches in {len(sites.names)} layers", warnings_about(sites))
        return io.NodeOutput(patched)


def mixing_inputs() -> list[io.Input]:
    """How the two branches are mixed: of every node that samples with DCI."""
    return [
        io.Float.Input("omega", display_name="strength", default=1.0, min=-2.0, max=2.0, step=0.05,
                       tooltip="How much of its surroundings the second picture lends, -2 to 2; the paper's "
                               "omega. More follows the prompt, less keeps the subject; too much loses it. "
                               "Default 1: both branches weigh alike where their maps agree. 0 still mixes; "
                               "active until 0 switches DCI off."),
        io.Float.Input("window", display_name="active until", default=AUTOMATIC, min=AUTOMATIC, max=1.0,
                       step=0.01, tooltip=WINDOW),
        io.Boolean.Input("shared_guidance", default=True,
                         tooltip="One unconditional prediction for both branches: on (published, default) "
                                 "costs 3 rows per picture and step in the window, off 4."),
        DCI_OPTIONS.Input("options", optional=True,
                          tooltip="Optional. DCI Options; leave it empty to use its defaults."),
    ]
