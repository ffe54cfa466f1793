"""DCI's text half: a prompt and its auxiliary prompt in one CONDITIONING (Jin et al., "Customized Generation
Reimagined", ECCV 2024).
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.dci.config import DCIConfig
from ..core.dci.subjects import SubjectPrompt, parse_subjects
from ..core.wording import clean_prompts
from .bridge.dci.dual_prompt import encode_dual_prompt
from .bridge.notices import show_notice
from .bridge.sockets import DCI_OPTIONS


class DCIEncode(io.ComfyNode):
    """Prompt, subjects and auxiliary nouns to CONDITIONING, for a MODEL from DCI Model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeDCIEncode",
            display_name="DCI Encode",
            category="personalize",
            description="CLIP Text Encode for DCI: the positive prompt, with the auxiliary prompt and the subjects' "
                        "places in it. Sample it with the MODEL of DCI Model; several of them join with Combine, each "
                        "with its own subjects.",
            search_aliases=["dual prompt", "several subjects", "divide conquer integrate", "clip text encode"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True,
                                default="a sks dog and a ohwx cat in times square",
                                tooltip="The prompt, any length, with identifier and class noun of every subject side "
                                        "by side, in any case, singular or plural; weights in parentheses are fine."),
                io.String.Input("identifier", default="sks, ohwx",
                                tooltip="The subjects' identifiers, as in training, separated by commas; 1 or more. "
                                        "Default sks, ohwx."),
                io.String.Input("class_noun", default="dog, cat",
                                tooltip="Their class nouns in the same order, separated by commas. Default dog, cat."),
                io.String.Input("auxiliary_noun", display_name="stand-in object", default="rabbit, bird",
                                tooltip="What takes their places in the auxiliary prompt (auxiliary nouns), in the "
                                        "same order; one noun stands for all. Any noun but the class noun and its "
                                        "synonyms. Default rabbit, bird."),
                io.String.Input("prompt_l", multiline=True, dynamic_prompts=True, default="", advanced=True,
                                tooltip="SDXL only: another text for its CLIP-L, with the subjects at the same places. "
                                        "Empty (default): the prompt."),
                DCI_OPTIONS.Input("options", optional=True,
                                  tooltip="Optional. DCI Options, for split prompts; leave it empty for entire "
                                          "prompts."),
            ],
            outputs=[io.Conditioning.Output(tooltip="The positive prompt, with the auxiliary prompt inside.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip, prompt, identifier, class_noun, auxiliary_noun, prompt_l="", options=None) -> io.NodeOutput:
        prompt, prompt_l, identifier, class_noun, auxiliary_noun = clean_prompts(
            prompt=prompt, prompt_l=prompt_l, identifier=identifier, class_noun=class_noun,
            auxiliary_noun=auxiliary_noun)
        config = options or DCIConfig()
        subject = SubjectPrompt(prompt=prompt, subjects=parse_subjects(identifier, class_noun, auxiliary_noun),
                                prompt_l=prompt_l.strip() or None, split=config.prompts == "split")
        conditioning = encode_dual_prompt(clip, subject)
        show_notice(cls.hidden.unique_id, f"Auxiliary prompt: {subject.auxiliary_branch[0]}", subject.warnings)
        return io.NodeOutput(conditioning)
