"""One photo of several subjects, each with its mask and its words (Lu, Xie, Guo 2024, "Object-Driven One-Shot
Fine-tuning of Text-to-Image Diffusion with Prototypical Embedding", 3.5, eq. 5)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.subject.identifier import warnings_about
from ..core.subject.photo_warnings import warnings_about_photos
from ..core.subject.subject import SCENE_TEMPLATE, SceneObject, check_name, warnings_about_data
from ..core.wording import clean_prompt, clean_prompts
from .bridge.notices import show_notice
from .bridge.photos.photos import scene_from_image
from .bridge.queue.queue_checks import answer
from .bridge.sockets import DATA_OPTIONS, OBJECTS, SUBJECT


class ObjectMask(io.ComfyNode):
    """A mask and the words for what it covers, chained to OBJECTS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeObjectMask",
            display_name="Object Mask",
            category="personalize",
            description="Says what one object in a photo is: its mask, its identifier, its class noun. Chain one for "
                        "each object, and connect the last to Scene Photo.",
            search_aliases=["several subjects", "multi-object", "segment", "object mask"],
            inputs=[
                io.Mask.Input("mask", tooltip="White on this object alone, at the photo's own size: painted, or from a "
                                              "segmentation node."),
                io.String.Input("identifier", default="sks",
                                tooltip="The rare word V of this object, another one for each. Connect Identifier "
                                        "Picker. Default sks."),
                io.String.Input("class_noun", default="dog",
                                tooltip="What the object is, in one or a few plain words. Default dog."),
                OBJECTS.Input("objects", optional=True, tooltip="The other objects of the same photo."),
            ],
            outputs=[OBJECTS.Output("OBJECTS", tooltip="All objects so far, for Scene Photo.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, identifier=None) -> bool | str:
        """Refuses a typed identifier when the graph is queued."""
        return answer(("identifier", lambda text: check_name(text, "{V}"), identifier))

    @classmethod
    def execute(cls, mask, identifier, class_noun, objects=None) -> io.NodeOutput:
        identifier, class_noun = clean_prompts(identifier=identifier, class_noun=class_noun)
        chosen = SceneObject(identifier=identifier.strip(), class_noun=class_noun.strip(), mask=mask)
        warnings = warnings_about(chosen.identifier, chosen.class_noun)
        show_notice(cls.hidden.unique_id, f"'a {chosen.identifier} {chosen.class_noun}'", warnings)
        return io.NodeOutput((*(objects or ()), chosen))


class ScenePhoto(io.ComfyNode):
    """IMAGE and OBJECTS to SUBJECT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeScenePhoto",
            display_name="Scene Photo",
            category="personalize",
            description="One photo of several objects that are learned together, each under its own words. Use Masked "
                        "Loss with its object term, which shows the objects one by one as well.",
            search_aliases=["several subjects", "multi-object", "two subjects", "one photo", "scene"],
            inputs=[
                io.Image.Input("image", tooltip="The photo; one picture."),
                OBJECTS.Input("objects", tooltip="What is in it: a chain of Object Mask nodes, one to eight."),
                io.String.Input("caption_template", default=SCENE_TEMPLATE, advanced=True,
                                tooltip="Caption of the photo; {objects} becomes 'a V1 noun1 and a V2 noun2'. Every "
                                        "identifier must be in it. Default {objects}."),
                DATA_OPTIONS.Input("data", optional=True,
                                   tooltip="Optional. Data Options for this photo; leave it empty for one centred "
                                           "square view. buckets keep objects at the photo's edge."),
                SUBJECT.Input("subject", optional=True,
                              tooltip="Another Scene Photo or Subject Photos, trained together with this one. The same "
                                      "words there mean the same subject."),
                io.Image.Input("references", optional=True,
                               tooltip="Reference images for edit models (Kontext, Qwen-Image-Edit, Flux.2): one "
                                       "picture or a batch. The photo is what the model learns to make of them."),
            ],
            outputs=[SUBJECT.Output("SUBJECT", tooltip="All subjects so far, for Personalize Trainer.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, image, objects, caption_template, data=None, subject=None, references=None) -> io.NodeOutput:
        template = clean_prompt(caption_template, "caption_template")
        scene = scene_from_image(image, tuple(objects), template, data,
                                 () if references is None else (references,))
        warnings = [*warnings_about_data(scene), *warnings_about_photos(scene)]
        show_notice(cls.hidden.unique_id, f"'{scene.caption}'", warnings)
        return io.NodeOutput((*(subject or ()), scene))
