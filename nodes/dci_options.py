"""What DCI can do differently, and the paper's ablations (Jin et al., "Customized Generation Reimagined", ECCV 2024,
sections 3.3 and 4.3).
"""

from __future__ import annotations

from typing import get_args

from comfy_api.v0_0_2 import io

from ..core.dci.config import Aggregation, AuxiliaryNoise, DCIConfig, Layers, Prompts, Sharpening
from ..core.errors import InputError
from .bridge.sockets import DCI_OPTIONS


class DCIOptions(io.ComfyNode):
    """Widgets to DCI_OPTIONS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeDCIOptions",
            display_name="DCI Options",
            category="personalize",
            description="For experiments with DCI: strength over time, its end by noise level, which layers mix, "
                        "and the paper's ablations. Leave it out for its defaults, the published settings.",
            search_aliases=["dci ablation", "omega schedule", "dual branch options"],
            inputs=[
                io.Boolean.Input("omega_schedule", display_name="strength changes", default=False,
                                 tooltip="On: the strength goes from strength to strength at the end while DCI is "
                                         "active, evenly in the logarithm of the noise level. Off (default): the same "
                                         "throughout."),
                io.Float.Input("omega_end", display_name="strength at the end", default=1.0, min=-2.0, max=2.0,
                               step=0.05,
                               tooltip="Strength where DCI ends, -2 to 2, when strength changes is on. Default 1."),
                io.Float.Input("window_sigma", display_name="active until sigma", default=0.0, min=0.0, max=1000.0,
                               step=0.01, round=False,
                               tooltip="Noise level (sigma) at which DCI ends, in place of active until; SD runs from "
                                       "14.6 to 0. 0 (default): active until counts."),
                io.Combo.Input("auxiliary_noise", options=list(get_args(AuxiliaryNoise)), default="independent",
                               tooltip="The auxiliary picture's noise: its own (independent, published, default), or "
                                       "yours (shared), so that both begin with one layout."),
                io.Combo.Input("sharpening", options=list(get_args(Sharpening)), default="auto",
                               tooltip="Masks over space. published: softer in larger pictures. by_resolution: at "
                                       "every size as at 512 x 512 pixels. auto (default): by_resolution where active "
                                       "until is -1, else published."),
                io.String.Input("scales", default="",
                                tooltip="Which layers mix, by scale, separated by commas: 1 is the latent's own size, "
                                        "2 half, 4 a quarter, 8 an eighth. Empty (default): all."),
                io.Boolean.Input("seed_exact", default=True,
                                 tooltip="Samplers that draw noise at every step draw for your picture what they draw "
                                         "without DCI. On (default): DCI on and off differ by DCI alone."),
                io.Combo.Input("aggregation", options=list(get_args(Aggregation)), default="masks", advanced=True,
                               tooltip="Ablation: masks (default), or no masks but the mean (half) or the sum of both "
                                       "branches."),
                io.Combo.Input("layers", options=list(get_args(Layers)), default="all", advanced=True,
                               tooltip="Ablation: all layers mix (default), or only the last of them."),
                io.Combo.Input("prompts", options=list(get_args(Prompts)), default="entire", advanced=True,
                               tooltip="Ablation: each branch reads its entire prompt (default), or split: only the "
                                       "subject, only the rest."),
            ],
            outputs=[DCI_OPTIONS.Output("DCI_OPTIONS", tooltip="For DCI Conditioning, DCI Model and DCI Encode.")],
        )

    @classmethod
    def execute(cls, omega_schedule, omega_end, window_sigma, auxiliary_noise, sharpening, scales, seed_exact,
                aggregation, layers, prompts) -> io.NodeOutput:
        return io.NodeOutput(DCIConfig(
            omega_end=omega_end if omega_schedule else None, window_sigma=window_sigma or None,
            auxiliary_noise=auxiliary_noise, sharpening=sharpening, scales=parse_scales(scales), seed_exact=seed_exact,
            aggregation=aggregation, layers=layers, prompts=prompts))


def parse_scales(text: str) -> tuple[int, ...]:
    """'1, 2' to (1, 2)."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InputError("scales", repr(text), "whole numbers separated by commas, e.g. 1, 2",
                         "Leave it empty to mix in all layers.") from error
