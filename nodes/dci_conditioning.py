"""DCI: follow the prompt better and keep the subject, without training (Jin et al., "Customized Generation
Reimagined", ECCV 2024).

A second picture, about an ordinary noun in the subject's place, is denoised beside the first one for a while
and lends it the surroundings that the prompt asks for.
"""

from __future__ import annotations

from dataclasses import replace

from comfy_api.v0_0_2 import io

from ..core.dci.config import DCIConfig
from ..core.dci.subjects import DCISubject, SubjectPrompt
from ..core.dci.window import given_window
from ..core.wording import clean_prompts
from .bridge.dci.dual_branch import patch_dual_branch, sites_of
from .bridge.dci.dual_prompt import encode_dual_prompt
from .bridge.dci.mixing_sites import warnings_about
from .bridge.notices import show_notice
from .dci_model import mixing_inputs


class DCIConditioning(io.ComfyNode):
    """A prompt about a personalized subject, and a MODEL that samples it with an auxiliary branch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIConditioning",
            display_name="DCI Conditioning",
            category="personalize",
            description="Follow the prompt better while keeping the subject: an auxiliary picture about an "
                        "ordinary noun lends its surroundings during the first part of sampling (DCI). Use "
                        "both outputs in the same sampler; the negative prompt comes from CLIP Text Encode.",
            search_aliases=["dci", "divide conquer integrate", "dual branch", "subject prompt", "personalize"],
            inputs=[
                io.Model.Input("model", tooltip="The personalized model: SD 1.x, SD 2.x, SDXL, pocket. Experimental: "
                                            "diffusion transformers (SD3, Flux, Z-Image, Qwen-Image and others)."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True,
                                default="a sks dog in times square",
                                tooltip="The prompt, any length. It must hold identifier and class noun side "
                                        "by side, in any case; weights in parentheses are fine."),
                io.String.Input("identifier", default="sks",
                                tooltip="The subject's identifier, as in training: 1 or more tokens. "
                                        "Default sks."),
                io.String.Input("class_noun", default="dog",
                                tooltip="The subject's class noun, as in training: 1 or more words. "
                                        "Default dog."),
                io.String.Input("auxiliary_noun", display_name="stand-in object", default="cat",
                                tooltip="Takes the subject's place in the second picture (the paper's auxiliary "
                                        "noun): any noun but the "
                                        "class noun and its synonyms, best one often seen in the prompt's "
                                        "surroundings. Default cat."),
                *mixing_inputs(),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, sampling with two branches; with another positive prompt "
                                        "it samples as before."),
                io.Conditioning.Output(tooltip="The positive prompt, with the auxiliary prompt inside."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, clip, prompt, identifier, class_noun, auxiliary_noun, omega, window,
                shared_guidance, options=None) -> io.NodeOutput:
        prompt, identifier, class_noun, auxiliary_noun = clean_prompts(
            prompt=prompt, identifier=identifier, class_noun=class_noun, auxiliary_noun=auxiliary_noun)
        config = replace(options or DCIConfig(), omega=omega, window=given_window(window),
                         shared_guidance=shared_guidance)
        one = DCISubject(identifier=identifier, class_noun=class_noun, auxiliary_noun=auxiliary_noun)
        subject = SubjectPrompt(prompt=prompt, subjects=(one,), split=config.prompts == "split")
        patched = patch_dual_branch(model, config)
        conditioning = encode_dual_prompt(clip, subject)
        warnings = [*warnings_about(sites_of(patched)), *subject.warnings]
        show_notice(cls.hidden.unique_id, f"Auxiliary prompt: {subject.auxiliary_branch[0]}", warnings)
        return io.NodeOutput(patched, conditioning)
