"""Where is the noun in my photos? Masks from the base model's own cross-attention (Tang et al., 2022, *What the DAAM*,
section 3)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.errors import require
from ..core.subject.subject import CLASS_TEMPLATE
from ..core.wording import clean_prompts
from .bridge.dci.noun_masks import Look, check_words, noun_masks, resolution_of
from .bridge.notices import show_notice
from .bridge.photos.own_class_images import check_vae
from .bridge.photos.photos import photos_from_images
from .bridge.queue.queue_checks import answer


class MaskFromNoun(io.ComfyNode):
    """From photos and a noun to MASKs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeMaskFromNoun",
            display_name="Mask from Noun",
            category="personalize",
            description="Masks what a noun names in each photo, by where the loaded model itself looks for that noun. "
                        "No other model is needed. Coarse: look at the masks before you train with them.",
            search_aliases=["automatic mask", "auto mask", "segment", "subject mask", "attention mask", "daam"],
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip="The model before training."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Image.Input("images", tooltip="Photos: one, a batch, or a list; sizes may differ."),
                io.String.Input("class_noun", default="dog",
                                tooltip="What to mask, in one or a few plain words; the class noun. Default dog."),
                io.Float.Input("threshold", default=0.0, min=0.0, max=0.99, step=0.01,
                               tooltip="From which part of the strongest attention on a place is the subject's, 0 to "
                                       "0.99. Higher: a smaller mask. 0 (default): by each photo itself (Otsu)."),
                io.Int.Input("resolution", default=0, min=0, max=4096, step=8, advanced=True,
                             tooltip="The photo is shown to the model at about as many pixels as a square of this "
                                     "side has. 0 (default): automatic, by the recipe of the model's family."),
                io.String.Input("template", default=CLASS_TEMPLATE, advanced=True,
                                tooltip="The prompt that the model reads; {noun} is the noun. Default a {noun}."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                             advanced=True, tooltip="Of the noise on the photos, 0 to 2^64 - 1. Default 0."),
            ],
            outputs=[
                io.Mask.Output("MASK", is_output_list=True,
                               tooltip="A mask of 0 and 1 for each photo at its size, a list: for Subject Photos."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, class_noun=None, template=None) -> bool | str:
        """Refuses typed words when the graph is queued."""
        return answer(("class_noun", lambda noun: check_words(noun, CLASS_TEMPLATE), class_noun),
                      ("template", lambda text: check_words("dog", text), template))

    @classmethod
    def execute(cls, model, clip, vae, images, class_noun, threshold, resolution, template, seed) -> io.NodeOutput:
        noun, template = clean_prompts(class_noun=class_noun[0], template=template[0])
        check_words(noun, template)
        require(clip[0] is not None, "clip", "nothing", "a text encoder", "Connect a CLIP loader.")
        check_vae(vae[0])
        photos = [photo.pixels[None] for photo in photos_from_images(images)]
        look = Look(noun=noun.strip(), prompt=template.replace("{noun}", noun.strip()), threshold=threshold[0],
                    resolution=resolution_of(model[0], resolution[0]), seed=seed[0])
        masks = noun_masks(model[0], clip[0], vae[0], photos, look)
        shares = ", ".join(f"{float(mask.mean()):.0%}" for mask in masks)
        show_notice(cls.hidden.unique_id, f"'{look.noun}' covers {shares}")
        return io.NodeOutput(masks)
