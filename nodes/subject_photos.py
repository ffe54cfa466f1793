"""Photos of a subject, with the words that stand for it (DreamBooth, arXiv:2208.12242, 3.1)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.data.options import DataOptions
from ..core.subject.identifier import warnings_about
from ..core.subject.photo_warnings import warnings_about_photos
from ..core.subject.subject import CAPTION_TEMPLATE, Subject, check_name, warnings_about_data
from ..core.wording import clean_prompts
from .bridge.notices import show_notice
from .bridge.photos.photos import photos_from_images, with_captions, with_references
from .bridge.queue.queue_checks import answer
from .bridge.sockets import DATA_OPTIONS, SUBJECT

MAX_SOCKETS = 50


class SubjectPhotos(io.ComfyNode):
    """From pictures of any size to SUBJECT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeSubjectPhotos",
            display_name="Subject Photos",
            category="personalize",
            description="Photos of one subject and the words that stand for it. 3 to 5 photos with different "
            "backgrounds work best. Chain several of these nodes for several subjects.",
            search_aliases=["photos for dreambooth", "training images", "subject", "photos", "dataset"],
            is_input_list=True,
            inputs=[
                _photos(),
                _masks(),
                *_words(),
                DATA_OPTIONS.Input(
                    "data", optional=True,
                    tooltip="Optional. Data Options for these photos; leave it empty for one centred square view of "
                            "each.",
                ),
                SUBJECT.Input(
                    "subject", optional=True, tooltip="Another subject, trained together with this one."
                ),
                _references(),
            ],
            outputs=[
                SUBJECT.Output("SUBJECT", tooltip="All subjects so far, for Personalize Trainer."),
                io.String.Output("identifier", display_name="identifier",
                                 tooltip="This subject's identifier, for prompts and DCI."),
                io.String.Output("class_noun", display_name="class_noun",
                                 tooltip="This subject's class noun, for class images, prompts and DCI."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, identifier=None, caption_template=None, images=None, masks=None,
                        references=None) -> bool | str:
        """Refuses typed words when the graph is queued; linked ones are seen by `execute`.

        ComfyUI hands over inputs that grow (images, masks, references) whether they are asked for or not.
        """
        return answer(("identifier", lambda text: check_name(text, CAPTION_TEMPLATE), identifier),
                      ("caption_template", lambda text: check_name("linked", text), caption_template))

    @classmethod
    def execute(
        cls, images, identifier, class_noun, caption_template, masks=None, captions=None, data=None, subject=None,
        references=None
    ) -> io.NodeOutput:
        identifier, class_noun, template = clean_prompts(
            identifier=identifier[0], class_noun=class_noun[0], caption_template=caption_template[0])
        photos = with_captions(photos_from_images(_flat(images), _flat(masks)), captions or ())
        photos = with_references(photos, _flat(references))
        chosen = Subject(
            identifier=identifier.strip(),
            class_noun=class_noun.strip(),
            photos=photos,
            caption_template=template,
            data=_first(data, None) or DataOptions(),
        )
        warnings = [*warnings_about(chosen.identifier, chosen.class_noun),
                    *warnings_about_data(chosen), *warnings_about_photos(chosen)]
        show_notice(cls.hidden.unique_id, f"{len(photos)} photos of '{chosen.caption}'", warnings)
        upstream = tuple(member for chain in subject or () if chain for member in chain)
        return io.NodeOutput((*upstream, chosen), chosen.identifier, chosen.class_noun)


def _photos() -> io.Input:
    image = io.Image.Input("image", tooltip="One photo, a batch, or a list of photos; sizes may differ.")
    return io.Autogrow.Input(
        "images",
        io.Autogrow.TemplatePrefix(image, prefix="image", min=1, max=MAX_SOCKETS),
        tooltip="Photos: connect one Load Image each (every photo keeps its size), "
        "a batch, or a list. For a whole folder use Photos from Folder.",
    )


def _masks() -> io.Input:
    mask = io.Mask.Input("mask", optional=True, tooltip="White where the subject is, at the photo's own size.")
    return io.Autogrow.Input(
        "masks",
        io.Autogrow.TemplatePrefix(mask, prefix="mask", min=0, max=MAX_SOCKETS),
        optional=True,
        tooltip="Masks of the subject, one per photo in the same order; all or none.",
    )


def _words() -> list[io.Input]:
    """What the subject is called, and its photos' captions."""
    return [
        io.String.Input(
            "identifier",
            default="sks",
            tooltip="The rare word V that will mean this subject. Connect Identifier Picker.",
        ),
        io.String.Input(
            "class_noun",
            default="dog",
            tooltip="What the subject is, in one or a few plain words: dog, teapot, toy car.",
        ),
        io.String.Input(
            "caption_template",
            default=CAPTION_TEMPLATE,
            advanced=True,
            tooltip="Caption of every photo; {V} is the identifier, {noun} the class noun.",
        ),
        io.String.Input(
            "captions",
            default="",
            multiline=True,
            optional=True,
            advanced=True,
            tooltip="Captions of single photos: one line each in the photos' order, or a list of "
            "texts. {V} and {noun} are filled in; an empty line uses caption_template. Default empty.",
        ),
    ]


def _references() -> io.Input:
    reference = io.Image.Input("reference", optional=True, tooltip="One picture, a batch, or a list; any sizes.")
    return io.Autogrow.Input(
        "references",
        io.Autogrow.TemplatePrefix(reference, prefix="reference", min=0, max=MAX_SOCKETS),
        optional=True,
        tooltip="Reference images for edit models (Kontext, Qwen-Image-Edit, Flux.2): as many for each "
        "photo, in the photos' order. The photo is what the model learns to make of them.",
    )


def _first(values, linked):
    """The one value of a widget, or `linked` where another node will give it."""
    value = values[0] if isinstance(values, list | tuple) else values
    return linked if value is None else value


def _flat(sockets):
    """Every connected socket's list of batches, one after the other."""
    return [batch for batches in (sockets or {}).values() for batch in batches or () if batch is not None]
