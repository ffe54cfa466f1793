"""Figures for a personalization: fidelity, alignment, drift and diversity, as the papers measure them (DreamBooth,
arXiv:2208.12242, 4.2), with a chart and a sheet to look at.

A method is measured by pictures of many prompts at fixed noise, not by the one picture that came out well.
"""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..core.evaluation.metrics import check_lpips
from ..core.evaluation.prompts import EXAMPLE, check_prompts
from ..core.model_folders import read_config
from .bridge.evaluation.request import evaluate, make_request
from .bridge.notices import show_notice
from .bridge.queue.queue_checks import WholeSteps, answer
from .bridge.sockets import IMAGE_TEXT_ENCODER, SUBJECT


class EvaluatePersonalization(io.ComfyNode):
    """MODEL, CLIP, VAE, SUBJECT and prompts to figures, a chart, a sheet and the pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeEvaluate",
            display_name="Evaluate Personalization",
            category="personalize",
            description="Draws the subject in many prompts at fixed seeds and measures it: fidelity to the photos, "
                        "alignment with the prompts, diversity, drift of the class. Two models with the same settings "
                        "can be compared.",
            search_aliases=["metrics", "clip score", "dino score", "kid", "lpips", "benchmark", "compare models"],
            is_output_node=True,
            is_input_list=True,
            inputs=[*_models(), *_prompts(), *_sampling(), *_metrics()],
            outputs=[
                io.String.Output("figures", display_name="figures", tooltip="A table (Markdown)."),
                io.String.Output("json", display_name="json", tooltip="The same for programs, and for the compare "
                                                                      "input of another of these nodes."),
                io.Image.Output("chart", display_name="chart",
                                tooltip="Fidelity against alignment by kind of prompt; all figures with intervals."),
                io.Image.Output("sheet", display_name="sheet",
                                tooltip="The photos, then the pictures with their prompts under them."),
                io.Image.Output("pictures", display_name="pictures", tooltip="All pictures, prompt by prompt."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, prompts=None, dino_path=None, lpips_path=None) -> bool | str:
        """Refuse texts that cannot be used before anything runs."""
        return answer(("prompts", lambda text: check_prompts([text]), prompts),
                      ("dino_path", lambda text: text.strip() and read_config(text.strip(), "dino_path"), dino_path),
                      ("lpips_path", lambda text: text.strip() and check_lpips(text.strip()), lpips_path))

    @classmethod
    def execute(cls, prompts, **inputs) -> io.NodeOutput:
        results = evaluate(make_request(prompts, inputs))
        show_notice(cls.hidden.unique_id, results.summary, results.warnings)
        return io.NodeOutput(results.table, results.record, results.chart, results.sheet, results.pictures,
                             ui={"text": (results.table,), "evaluation": (results.record,)})


def _models() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The personalized model. One with DCI needs stand-in object."),
        io.Clip.Input("clip", tooltip="The text encoder that belongs to it."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
        SUBJECT.Input("subject", tooltip="Subject Photos of one subject: what fidelity is measured against, and the "
                                         "words {V} and {noun}. Photos that were not trained on say more."),
    ]


def _prompts() -> list[io.Input]:
    return [
        io.String.Input("prompts", multiline=True, default=EXAMPLE,
                        tooltip="One per line: a template with {V} and {noun}, or a text with the identifier in it; or "
                                "the list of Subject Prompts. A line '# places' names the kind of those below it. "
                                "Default ten of DreamBooth's; intervals need 5 or more."),
        io.String.Input("label", default="this model",
                        tooltip="A name for table, chart and sheet. Default this model."),
        io.String.Input("identifier", default="", advanced=True,
                        tooltip="How prompts write the subject, where it is not the SUBJECT's own identifier: connect "
                                "the trainer's or the loader's output. Empty (default): the SUBJECT's."),
        io.String.Input("auxiliary_noun", display_name="stand-in object", default="", advanced=True,
                        tooltip="For a MODEL with DCI alone: what takes the subject's place in its second picture (the "
                                "auxiliary noun), such as cat. Empty (default) without DCI."),
        io.String.Input("negative_prompt", default="", advanced=True, tooltip="For all pictures. Default empty."),
    ]


def _sampling() -> list[io.Input]:
    samplers, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
    return [
        io.Int.Input("seeds", default=2, min=1, max=64, control_after_generate=False,
                     tooltip="Pictures per prompt, 1 to 64, at the seeds seed, seed + 1, ... Diversity needs 2. "
                             "Default 2; the papers have 4."),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                     tooltip="The first seed, 0 to 2^64 - 1: the same noise for every prompt and every model. "
                             "Default 0."),
        io.Int.Input("size", default=512, min=WholeSteps(64, 8), max=4096, step=8,
                     tooltip="Width and height in pixels, 64 to 4096, a multiple of 8. Default 512 (SD 1.5); 1024 for "
                             "SDXL, 96 for the pocket model."),
        io.Int.Input("steps", default=25, min=1, max=1000,
                     tooltip="Sampling steps per picture, 1 to 1000. Default 25."),
        io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1,
                       tooltip="Guidance scale, 0 to 100; 1 is without guidance. Default 7; the pocket model 3."),
        io.Combo.Input("sampler", options=list(samplers), default="euler", tooltip="ComfyUI's sampler. Default euler."),
        io.Combo.Input("scheduler", options=list(schedulers), default="normal", advanced=True,
                       tooltip="ComfyUI's noise schedule. Default normal."),
        io.Int.Input("class_pictures", default=8, min=0, max=1000, advanced=True,
                     tooltip="Pictures of 'a {noun}' for drift, by this model and the reference each, 0 to 1000; 0 = "
                             "none. Default 8."),
    ]


def _metrics() -> list[io.Input]:
    return [
        io.String.Input("dino_path", default="", advanced=True,
                        tooltip="Folder of a transformers DINO, which gives the figure dino. Empty (default): none."),
        io.String.Input("lpips_path", default="", advanced=True,
                        tooltip="File of torchvision's AlexNet, VGG16 or SqueezeNet 1.1 (.pth, .safetensors), for "
                                "diversity by LPIPS; needs torchmetrics. Empty (default): none."),
        IMAGE_TEXT_ENCODER.Input("image_text", optional=True,
                                 tooltip="Image-Text Encoder, which gives the figures clip_i and clip_t."),
        io.Model.Input("reference_model", optional=True,
                       tooltip="The model before training, for drift of 'a {noun}'. Needs reference_clip as well."),
        io.Clip.Input("reference_clip", optional=True, tooltip="The text encoder before training."),
        io.String.Input("compare", optional=True, force_input=True,
                        tooltip="The json of another Evaluate Personalization with the same prompts and settings: "
                                "table and chart show both, and the difference prompt by prompt."),
    ]
