"""Saved steps of a run x strengths x prompts on one labelled sheet, to choose by eye what to keep."""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..core.training.automatic import AUTO, chosen_lines
from .bridge.evaluation.checkpoint_grid import CONNECTED, check_run, draw_grid, make_request, run_choices, run_state
from .bridge.notices import show_notice, shown_pictures
from .bridge.queue.fingerprints import fingerprint
from .bridge.queue.queue_checks import SIDE, answer
from .bridge.sockets import PERSONALIZATION


class CheckpointGrid(io.ComfyNode):
    """MODEL, CLIP, VAE and a run to a sheet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeCheckpointGrid",
            display_name="Checkpoint Grid",
            category="personalize",
            description="Draws the kept steps of a run at several strengths, every picture at the same noise, on one "
                        "labelled sheet: see after how many steps it was good, and at which strength.",
            search_aliases=["xy plot", "compare steps", "epochs", "lora strength", "contact sheet"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that the run was trained on, without the run's LoRA."),
                io.Clip.Input("clip", tooltip="The text encoder that it was trained with."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                *_what(),
                *_sampling(),
                PERSONALIZATION.Input("personalization", optional=True,
                                      tooltip="Optional. PERSONALIZATION of a trainer in this graph: its run is drawn, "
                                              "whatever the widget says."),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet",
                                tooltip="For every prompt a row per step and a column per strength."),
                io.Image.Output("pictures", display_name="pictures",
                                tooltip="All pictures, prompt by prompt, step by step, strength by strength."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, run=None) -> bool | str:
        """Refuse a run that has no result before anything runs."""
        return answer(("run", check_run, run))

    @classmethod
    def fingerprint_inputs(cls, run=None, **_) -> str | float:
        """A run that has changed is drawn again."""
        return fingerprint(run_state, run)

    @classmethod
    def execute(cls, personalization=None, **inputs) -> io.NodeOutput:
        request = make_request(inputs, personalization)
        sheet, pictures = draw_grid(request)
        show_notice(cls.hidden.unique_id, "\n".join([f"{len(pictures)} pictures", *chosen_lines(request.told)]))
        return io.NodeOutput(sheet, pictures, ui=shown_pictures(sheet, cls))


def _what() -> list[io.Input]:
    """What stands on the sheet."""
    return [
        io.Combo.Input("run", options=run_choices(), default=CONNECTED,
                       tooltip="Whose steps are drawn: that of PERSONALIZATION (default), or one from the disk."),
        io.String.Input("steps", default="all",
                        tooltip="all steps that were kept (default), or some: 100, 200, 400. Training Options' "
                                "keep_every keeps more than the last."),
        io.String.Input("strengths", default="0.7, 1",
                        tooltip="Strengths on MODEL and CLIP, -10 to 10, separated by commas; 0 is the model without "
                                "it. Default 0.7 and 1."),
        io.String.Input("prompts", multiline=True, default="a {V} {noun} on the beach\na {V} {noun} in the snow",
                        tooltip="One per line; {V} is the identifier, {noun} the class noun. Default two."),
    ]


def _sampling() -> list[io.Input]:
    samplers, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
    return [
        io.Int.Input("size", default=0, min=SIDE, max=4096, step=8,
                     tooltip="Width and height in pixels, 64 to 4096, a multiple of 8. 0 (default): automatic, by the "
                             "model's recipe."),
        io.Int.Input("sampling_steps", default=0, min=0, max=1000,
                     tooltip="Sampling steps per picture, up to 1000. 0 (default): automatic, by the model's recipe."),
        io.Float.Input("cfg", default=0.0, min=0.0, max=100.0, step=0.1,
                       tooltip="Guidance scale, up to 100; 1 is without guidance. 0 (default): automatic, by the "
                               "model's recipe."),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                     tooltip="The noise of every picture, 0 to 2^64 - 1, so that they can be compared. Default 0."),
        io.Combo.Input("sampler", options=[AUTO, *samplers], default=AUTO, advanced=True,
                       tooltip="ComfyUI's sampler. auto (default): by the model's recipe."),
        io.Combo.Input("scheduler", options=[AUTO, *schedulers], default=AUTO, advanced=True,
                       tooltip="ComfyUI's noise schedule. auto (default): by the model's recipe."),
        io.String.Input("negative_prompt", default="", advanced=True, tooltip="For all pictures. Default empty."),
    ]
