"""See DCI work: the masks of its layers, scales and steps (Jin et al., "Customized Generation Reimagined", ECCV 2024,
fig. 11).

The node samples by itself. A recorder behind the sampler would be empty, or another run's, whenever ComfyUI takes the
sampler's result from its cache.
"""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..core.dci.observation import Kind
from ..core.dci.sheets import render_sheets
from .bridge.dci.watched_sampling import SamplerSettings, picture_mask, sample_watched
from .bridge.notices import show_notice

LAYOUTS = ("scales", "steps", "layers")
SHOWN: dict[str, Kind] = {"mask": "mask", "auxiliary mask": "auxiliary mask", "concept map": "concept",
                          "auxiliary map": "auxiliary"}


class DCIMasks(io.ComfyNode):
    """A KSampler for DCI that also says where it looked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeDCIMasks",
            display_name="DCI Masks",
            category="personalize",
            description="Samples like KSampler and shows DCI's masks: where the picture listens to its own prompt "
                        "(bright) and where to the auxiliary picture (dark), by scale, layer or step.",
            search_aliases=["attention map", "aggregation mask", "subject mask", "dci", "figure 11"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL of DCI Conditioning."),
                io.Conditioning.Input("positive", tooltip="The CONDITIONING of DCI Conditioning."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as in KSampler."),
                io.Latent.Input("latent_image", tooltip="What to start from, as in KSampler; a batch gives one sheet "
                                                        "and one mask per picture."),
                *_sampling(),
                io.Combo.Input("sheet", options=list(LAYOUTS), default="scales",
                               tooltip="Rows of the sheet: scales (as in the paper), layers, or scales with one column "
                                       "per step. Default scales."),
                io.Combo.Input("shown", options=list(SHOWN), default="mask",
                               tooltip="What the MASK output and the sheet of steps hold: the mask M^c of your "
                                       "picture, that of the auxiliary picture (1 - M^c, as the paper draws it), the "
                                       "evidence for the subject (concept map) or for its surroundings (auxiliary "
                                       "map). Default mask."),
                io.Float.Input("threshold", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                               tooltip="Cuts the MASK output: 1 where it is at least this, 0 elsewhere. 0 to 1 of its "
                                       "own range; 0 (default) keeps it soft."),
                io.Boolean.Input("overlay", default=True, advanced=True,
                                 tooltip="Darken in the live preview what the masks leave to the auxiliary picture. "
                                         "Default on; needs a preview method in ComfyUI's settings."),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="One labelled sheet per picture."),
                io.Mask.Output("mask", display_name="mask", tooltip="One mask per picture, at picture size, 0 to 1."),
                io.Latent.Output("latent", display_name="latent", tooltip="The sampled pictures, as from KSampler."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, positive, negative, latent_image, seed, steps, cfg, sampler_name, scheduler, denoise,
                sheet, shown, threshold, overlay) -> io.NodeOutput:
        settings = SamplerSettings(seed=seed, steps=steps, cfg=cfg, sampler=sampler_name, scheduler=scheduler,
                                   denoise=denoise)
        latent, recorder = sample_watched(model, positive, negative, latent_image, settings, overlay)
        text = f"{len(recorder.layers)} layers at {len(recorder.grids)} scales, {len(recorder.sigmas)} noise levels"
        show_notice(cls.hidden.unique_id, text)
        kind = SHOWN[shown]
        sheets = render_sheets(recorder, sheet, kind)
        return io.NodeOutput(sheets, picture_mask(recorder, kind, model, threshold), latent)


def _sampling() -> list[io.Input]:
    """A KSampler's widgets."""
    samplers, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
    return [
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                     tooltip="The noise's seed, 0 to 2^64 - 1. Default 0."),
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Sampling steps, 1 to 10000. Default 20."),
        io.Float.Input("cfg", default=6.0, min=0.0, max=100.0, step=0.1,
                       tooltip="Guidance scale, 0 to 100; 1 is without guidance. Default 6 as published."),
        io.Combo.Input("sampler_name", options=list(samplers), default="ddim", tooltip="ComfyUI's sampler."),
        io.Combo.Input("scheduler", options=list(schedulers), default="normal", tooltip="ComfyUI's noise schedule."),
        io.Float.Input("denoise", default=1.0, min=0.01, max=1.0, step=0.01, advanced=True,
                       tooltip="How much of the picture is noised, 0.01 to 1. Default 1. It must start in the window."),
    ]
