"""What is in the photos? The class noun from zero-shot classification (DreamBooth, arXiv:2208.12242, 3.2)."""

from __future__ import annotations

import re

from comfy_api.v0_0_2 import io, ui

from ..core.errors import require
from ..core.evaluation.metrics import NOUN_TEMPLATE, NounScore, class_nouns, rank_nouns
from ..core.wording import clean_prompts
from .bridge.notices import show_notice
from .bridge.photos.photos import photos_from_images
from .bridge.queue.queue_checks import answer
from .bridge.sockets import IMAGE_TEXT_ENCODER, SUBJECT

SURE = 0.5
"""Below this probability the user is told to look at the report."""


class ClassNounSuggestion(io.ComfyNode):
    """From photos to a ranked list of class nouns."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeClassNounSuggestion",
            display_name="Class Noun Suggestion",
            category="personalize",
            description="Names what is in the photos with a common noun, by a CLIP: the class noun for Subject Photos, "
            "prior preservation and every prompt.",
            search_aliases=["class noun", "class word", "classifier", "interrogate", "caption"],
            inputs=[
                IMAGE_TEXT_ENCODER.Input("image_text_encoder", tooltip="From Image-Text Encoder."),
                io.Image.Input("images", optional=True, tooltip="Photos of the subject: one, or a batch."),
                SUBJECT.Input("subject", optional=True,
                              tooltip="Instead of images: the photos of Subject Photos (its first subject)."),
                io.String.Input("nouns", default="", multiline=True,
                                tooltip="Nouns to choose from, one per line or separated by commas. Empty (default): "
                                f"the built-in list of {len(class_nouns())} everyday nouns."),
                io.Int.Input("shown", default=10, min=1, max=50,
                             tooltip="Nouns in the report, 1 to 50; default 10."),
                io.String.Input("template", default=NOUN_TEMPLATE, advanced=True,
                                tooltip="Prompt around each noun; {noun} is its place. Default 'a {noun}'; for a CLIP "
                                "that was trained on photos, 'a photo of a {noun}' is usual."),
            ],
            outputs=[io.String.Output("noun", display_name="noun", tooltip="The best noun."),
                     io.String.Output("report", display_name="report",
                                      tooltip="The best nouns with their cosines and probabilities.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, template=None) -> bool | str:
        return answer(("template", check_template, template))

    @classmethod
    def execute(cls, image_text_encoder, nouns="", shown=10, template=NOUN_TEMPLATE, images=None,
                subject=None) -> io.NodeOutput:
        nouns, template = clean_prompts(nouns=nouns, template=template)
        require((images is None) != (subject is None), "images", "neither" if images is None else "both",
                "either images or a subject", "Connect one of the two.")
        photos = subject[0].photos if images is None else photos_from_images([images])
        choice = [noun.strip() for noun in re.split(r"[,\n]", nouns) if noun.strip()] or class_nouns()
        ranked = rank_nouns(image_text_encoder, [photo.pixels for photo in photos], choice, template)
        best, text = ranked[0], describe(ranked, shown, len(photos))
        warnings = [] if best.probability >= SURE else [
            f"'{best.noun}' is not sure ({best.probability:.0%}): read the report, or type the class noun yourself."]
        show_notice(cls.hidden.unique_id, f"class noun: {best.noun}", warnings)
        return io.NodeOutput(best.noun, text, ui=ui.PreviewText(text))


def check_template(template: str) -> None:
    """Refuse a template without a place for the noun."""
    require("{noun}" in template, "template", repr(template), "a text with {noun}", f"Write {NOUN_TEMPLATE!r}.")


def describe(ranked: list[NounScore], shown: int, photos: int) -> str:
    """The report: a line per noun."""
    lines = [f"{i:3d} {score.noun:<18} {score.cosine:6.3f} {score.probability:7.1%}"
             for i, score in enumerate(ranked[:shown], 1)]
    return "\n".join([f"{len(ranked)} nouns against {photos} photos: noun, cosine, probability", *lines])
