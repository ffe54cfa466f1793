"""A noun to stand in for the subject in DCI's auxiliary picture (Jin et al., ECCV 2024, 'Auxiliary Noun' and 4.5).

Three ways, from free to costly: a list of common nouns; the text encoder's opinion; the frozen model's own pictures.
"""

from __future__ import annotations

import comfy.samplers
from comfy_api.v0_0_2 import io, ui

from ..core.dci.nouns import CATEGORIES, LIKE_THE_CLASS
from ..core.wording import clean_prompts
from .bridge.dci.noun_request import MODES, NounRequest, pick_noun
from .bridge.notices import show_notice
from .bridge.sockets import IMAGE_TEXT_ENCODER


class AuxiliaryNounPicker(io.ComfyNode):
    """Candidates, ranked; the best one goes into DCI Conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeAuxiliaryNounPicker",
            display_name="Auxiliary Noun Picker",
            category="personalize",
            description="Picks the noun that takes the subject's place in DCI's auxiliary picture: another kind of "
                        "thing that the model draws well in your prompt's surroundings.",
            search_aliases=["auxiliary noun", "dci", "stand-in", "class noun"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder."),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True,
                                default="a sks dog in times square",
                                tooltip="The prompt for DCI Conditioning: identifier and class noun side by side."),
                io.String.Input("identifier", default="sks", tooltip="The subject's identifier. Default sks."),
                io.String.Input("class_noun", default="dog", tooltip="The subject's class noun. Default dog."),
                io.Combo.Input("mode", options=list(MODES), default="preset",
                               tooltip="preset (default): the first allowed noun of the list, free. text: by the text "
                                       "encoder, one encoding per noun. prior: draws every candidate in the context "
                                       "with the model and measures how well the context explains the pictures."),
                io.Combo.Input("category", options=list(CATEGORIES), default=LIKE_THE_CLASS,
                               tooltip="Where candidates come from when none are typed below: nouns of the class' "
                                       "own kind and common ones (default), common ones only, or one kind."),
                io.String.Input("candidates", multiline=True, default="",
                                tooltip="Your own candidates, separated by commas or lines. Empty (default): the list. "
                                        "The class noun and its synonyms are left out."),
                *_prior_settings(),
                io.Model.Input("model", optional=True,
                               tooltip="For prior: the model before personalization, whose opinion of ordinary nouns "
                                       "is untouched."),
                io.Vae.Input("vae", optional=True, tooltip="For prior: the VAE, to show thumbnails."),
                IMAGE_TEXT_ENCODER.Input("image_text_encoder", optional=True,
                                         tooltip="For prior: from Image-Text Encoder; measures the pictures in the "
                                                 "model's place."),
            ],
            outputs=[
                io.String.Output("noun", display_name="noun", tooltip="The best one, for DCI Conditioning."),
                io.String.Output("report", display_name="report", tooltip="All candidates with their scores."),
                io.Image.Output("thumbnails", display_name="thumbnails",
                                tooltip="One row of pictures per noun, best first (prior), or the names alone."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip, prompt, identifier, class_noun, mode, category, candidates, pictures, seed, tried, steps,
                cfg, size, sampler, scheduler, model=None, vae=None,
                image_text_encoder=None) -> io.NodeOutput:
        prompt, identifier, class_noun, candidates = clean_prompts(
            prompt=prompt, identifier=identifier, class_noun=class_noun, candidates=candidates)
        request = NounRequest(prompt=prompt, identifier=identifier, class_noun=class_noun, mode=mode,
                              category=category, typed=candidates, tried=tried, pictures=pictures, seed=seed,
                              steps=steps, cfg=cfg, size=size, sampler=sampler, scheduler=scheduler)
        choice = pick_noun(request, clip, model, vae, image_text_encoder)
        show_notice(cls.hidden.unique_id, f"auxiliary noun: {choice.noun}", choice.warnings)
        return io.NodeOutput(choice.noun, choice.report, choice.sheet, ui=ui.PreviewText(choice.report))


def _prior_settings() -> list[io.Input]:
    """How `prior` draws its pictures."""
    samplers, schedulers = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
    return [
        io.Int.Input("pictures", default=2, min=1, max=64,
                     tooltip="prior: pictures per noun, 1 to 64. Default 2. Each costs one sampling; more make the "
                             "ranking surer."),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False, advanced=True,
                     tooltip="prior: decides the pictures and the noise they are measured with, 0 to 2^64 - 1. "
                             "Default 0."),
        io.Int.Input("tried", default=8, min=1, max=64, advanced=True,
                     tooltip="How many nouns of the list are candidates, 1 to 64. Default 8."),
        io.Int.Input("steps", default=20, min=1, max=1000, advanced=True,
                     tooltip="prior: sampling steps per picture, 1 to 1000. Default 20."),
        io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, advanced=True,
                       tooltip="prior: guidance scale, 0 to 100. Default 7."),
        io.Int.Input("size", default=512, min=64, max=4096, step=8, advanced=True,
                     tooltip="prior: width and height in pixels, 64 to 4096. Default 512; use the model's own size."),
        io.Combo.Input("sampler", options=list(samplers), default="euler_ancestral", advanced=True,
                       tooltip="prior: ComfyUI's sampler."),
        io.Combo.Input("scheduler", options=list(schedulers), default="normal", advanced=True,
                       tooltip="prior: ComfyUI's noise schedule."),
    ]
