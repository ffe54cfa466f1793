"""The papers' baselines as settings of one trainer: Textual Inversion, DreamBooth, Custom Diffusion, LoRA, ED-LoRA,
ICO, one photo. What else a method needs is said, and connected by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from comfy_api.v0_0_2 import io, ui

from ..core.training.measured_presets import MEASURED
from ..core.training.presets import PRESETS
from ..core.training.presets import MethodPreset as Preset
from .bridge.sockets import OPTIONS

SETTINGS: dict[str, Mapping[str, Preset]] = {"published": PRESETS, "measured": MEASURED}


class MethodPreset(io.ComfyNode):
    """A method's name to OPTIONS, rate and steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeMethodPreset",
            display_name="Method Preset",
            category="personalize",
            description="The settings of a method, published or measured, for Personalize Trainer: OPTIONS, learning "
                        "rate and steps, and a note of the other nodes that belong to it. It is a Training Options "
                        "node filled in, and no mode: the same settings by hand give the same run.",
            search_aliases=["textual inversion", "settings of dreambooth", "custom diffusion", "ed-lora", "ico",
                            "baseline"],
            is_output_node=True,
            inputs=[
                io.Combo.Input("method", options=list(PRESETS), default="lora",
                               tooltip="textual_inversion: only the identifier's vectors; dreambooth: all weights; "
                                       "custom_diffusion: vectors, and keys and values of the cross-attention; lora: "
                                       "(default) LoRA in all attention; ed_lora: LoRA in both networks, vectors; ico: "
                                       "learned contexts; one_shot: one photo with a prototype."),
                io.Combo.Input("settings", options=list(SETTINGS), default="published", optional=True,
                               tooltip="published: (default) rates and steps for Stable Diffusion, as the papers or "
                                       "their code have them; measured: those that the evidence bench found best for "
                                       "the pocket model on subjects kept for choosing."),
                io.Boolean.Input("detach_begin_token", default=True, optional=True,
                                 tooltip="Of custom_diffusion and ico: keys and values of the prompt's begin token "
                                         "learn nothing, as in the authors' code (default). Off: they learn, as in "
                                         "prompts without this input. Other methods have no such thing."),
            ],
            outputs=[
                OPTIONS.Output("OPTIONS", tooltip="For Personalize Trainer, instead of Training Options."),
                io.Float.Output("learning_rate", display_name="learning_rate",
                                tooltip="For the trainer's widget of the same name."),
                io.Int.Output("steps", display_name="steps", tooltip="For the trainer's widget of the same name."),
                io.String.Output("notes", display_name="notes",
                                 tooltip="The settings, the other nodes of the method, the source."),
            ],
        )

    @classmethod
    def execute(cls, method, settings="published", detach_begin_token=False) -> io.NodeOutput:
        preset = SETTINGS[settings][method]
        if not detach_begin_token:  # a prompt from before this input
            preset = replace(preset, options=replace(preset.options, detach_begin_token=False))
        notes = preset.describe()
        return io.NodeOutput(preset.options, preset.learning_rate, preset.steps, notes, ui=ui.PreviewText(notes))
