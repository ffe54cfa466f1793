"""Rare-token identifiers for the loaded text encoders, ranked (DreamBooth, arXiv:2208.12242, 3.2)."""

from __future__ import annotations

import re

from comfy_api.v0_0_2 import io, ui

from ..core.errors import require
from ..core.subject.identifier import report, warnings_about
from ..core.subject.picture_prior import FEWEST_PICTURES, rank_by_pictures
from ..core.wording import clean_prompts
from .bridge.notices import show_notice
from .bridge.sampling.picture_prior import PicturePrior
from .bridge.sockets import IMAGE_TEXT_ENCODER
from .bridge.text.identifiers import rank_identifiers
from .bridge.text.vocabulary import vocabularies_of


class IdentifierPicker(io.ComfyNode):
    """From the encoders' own vocabulary to a word that means nearly nothing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IdentifierPicker",
            display_name="Identifier Picker",
            category="personalize",
            description="Picks a rare word to stand for your subject: one that the loaded text encoders read "
            "as one to three rare tokens and that changes a prompt as little as possible.",
            search_aliases=["rare token", "trigger word", "sks", "identifier", "word for dreambooth"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder(s) that will be trained with or prompted."),
                *_of_words(),
                *_of_pictures(),
            ],
            outputs=[
                io.String.Output("identifier", display_name="identifier", tooltip="The best candidate."),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="All candidates with token ids, rank, "
                    "and why each is safe. Connect Preview as Text to read it.",
                ),
                io.String.Output("class_noun", display_name="class_noun",
                                 tooltip="The class noun, so that it is typed once: for Subject Photos, class images, "
                                         "prompts and DCI."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip, class_noun, tokens, seed, candidates, avoid, model=None, vae=None, image_text=None,
                pictures=4, picture_steps=8, picture_size=512, picture_cfg=7.0) -> io.NodeOutput:
        class_noun, avoid = clean_prompts(class_noun=class_noun, avoid=avoid)
        require(
            clip is not None, "clip", "no text encoder", "a CLIP", "Connect a loader that has a text encoder."
        )
        drawn = None if model is None else PicturePrior(
            model=model, clip=clip, vae=vae, image_text=image_text, count=pictures, steps=picture_steps,
            size=picture_size, cfg=picture_cfg)
        noun = class_noun.strip()
        ranked = rank_identifiers(clip, noun, tokens=tokens, count=candidates, seed=seed,
                                  avoid=re.split(r"[\s,;]+", avoid))
        if drawn is not None:
            ranked = rank_by_pictures(ranked, drawn.pulls([candidate.text for candidate in ranked], noun))
        best, text = ranked[0].text, report(ranked, noun)
        show_notice(cls.hidden.unique_id, f"identifier: {best}", warnings_about(best, noun, vocabularies_of(clip)))
        return io.NodeOutput(best, text, noun, ui=ui.PreviewText(text))


def _of_words() -> list[io.Input]:
    """What is looked for: everything but the pictures is read from the tokenizers."""
    return [
        io.String.Input(
            "class_noun",
            default="dog",
            tooltip="What the subject is, in one or a few plain words: dog, teapot, toy car.",
        ),
        io.Int.Input(
            "tokens",
            default=1,
            min=1,
            max=3,
            tooltip="Length of the identifier in tokens, 1 to 3. More tokens hold more detail. Encoders "
            "that share no meaningless word of that length, such as CLIP and T5, get a longer one.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,
            tooltip="Which candidates are drawn, 0 to 2^64 - 1. Another seed, other words.",
        ),
        io.Int.Input(
            "candidates",
            default=8,
            min=1,
            max=64,
            tooltip="How many are drawn and ranked, 1 to 64. Each costs one text encoding.",
        ),
        io.String.Input(
            "avoid",
            default="",
            multiline=True,
            tooltip="Words never to pick, separated by spaces, commas or lines.",
        ),
    ]


def _of_pictures() -> list[io.Input]:
    """The check on pictures, which the model alone turns on: it costs a few pictures of every candidate."""
    return [
        io.Model.Input("model", optional=True,
                       tooltip="Connect it to look at the candidates in pictures too: each is drawn a few times, and "
                               "one that makes pictures alike sinks. Off without it (default)."),
        io.Vae.Input("vae", optional=True, tooltip="The model's VAE, where image_text is connected."),
        IMAGE_TEXT_ENCODER.Input("image_text", optional=True,
                                 tooltip="Compares the pictures by a CLIP; without it their latents are compared."),
        io.Int.Input("pictures", default=4, min=FEWEST_PICTURES, max=64, optional=True, advanced=True,
                     tooltip="Pictures of each candidate and of the noun, 2 to 64, kept on disk. Default 4."),
        io.Int.Input("picture_steps", default=8, min=1, max=1000, optional=True, advanced=True,
                     tooltip="Sampling steps of each picture, 1 to 1000. Default 8: layout and colours are enough."),
        io.Int.Input("picture_size", default=512, min=64, max=4096, step=8, optional=True, advanced=True,
                     tooltip="Width and height in pixels, 64 to 4096: what the model knows. Default 512; 96 for the "
                             "pocket model, 1024 for SDXL."),
        io.Float.Input("picture_cfg", default=7.0, min=0.0, max=100.0, step=0.1, optional=True, advanced=True,
                       tooltip="Guidance scale of the pictures, 0 to 100. Default 7; 3 for the pocket model."),
    ]
