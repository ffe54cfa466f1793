"""A folder of photos of one or several subjects, with the captions and masks that lie beside them."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.data.options import DataOptions
from ..core.subject.identifier import warnings_about
from ..core.subject.photo_warnings import warnings_about_photos
from ..core.subject.subject import CAPTION_TEMPLATE, check_name, warnings_about_data
from ..core.wording import clean_prompt, clean_prompts
from .bridge.notices import show_notice, shown_pictures
from .bridge.photos.folders import find_folder, folder_state, images_of, input_folders, photo_sheet, read_subjects
from .bridge.photos.photos import with_captions_in_order
from .bridge.queue.fingerprints import fingerprint
from .bridge.queue.queue_checks import answer
from .bridge.sockets import DATA_OPTIONS, SUBJECT


class PhotosFromFolder(io.ComfyNode):
    """From a folder inside ComfyUI's input folder to SUBJECT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizePhotosFromFolder",
            display_name="Photos from Folder",
            category="personalize",
            description="Reads a folder of photos as viewers show them, upright and in the order of their names, with "
                        "the captions and masks beside them. Subfolders are subjects of their own.",
            search_aliases=["dataset folder", "load images from folder", "training images", "captions from files",
                            "kohya folder", "batch load photos", "subject photos"],
            is_input_list=True,
            inputs=[
                io.Combo.Input("folder", options=input_folders(),
                               tooltip="A folder inside ComfyUI's input folder. Press R after you have put one there."),
                io.String.Input("identifier", default="sks",
                                tooltip="The rare word V that will mean the subject. Connect Identifier Picker. "
                                        "Subfolders bring their own: '10_zkz dog'. Default sks."),
                io.String.Input("class_noun", default="dog",
                                tooltip="What the subject is, in one or a few plain words. A subfolder's other words "
                                        "replace it. Default dog."),
                io.String.Input("caption_template", default=CAPTION_TEMPLATE, advanced=True,
                                tooltip="Caption of every photo without a text file; {V} is the identifier, {noun} the "
                                        "class noun. Default a {V} {noun}."),
                DATA_OPTIONS.Input("data", optional=True,
                                   tooltip="Optional. Data Options for these photos. A number of repeats in a "
                                           "subfolder's name replaces theirs."),
                SUBJECT.Input("subject", optional=True,
                              tooltip="Optional. Another subject, trained together with this one."),
                io.String.Input("captions", optional=True, force_input=True,
                                tooltip="Optional. Captions in place of the text files: a list of texts, such as a "
                                        "captioner gives, or one text with a line for each photo. Each names the "
                                        "identifier or has {V}; an empty one leaves the photo its own."),
            ],
            outputs=[
                SUBJECT.Output("SUBJECT", tooltip="All subjects so far, for Personalize Trainer."),
                io.Image.Output("IMAGE", is_output_list=True, tooltip="The photos, a list; each keeps its size."),
                io.Mask.Output("MASK", is_output_list=True,
                               tooltip="Their masks, a list; all white for a photo without one."),
                io.String.Output("captions", display_name="captions", is_output_list=True,
                                 tooltip="Their captions as they were read, a list; empty where there is none."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder=None, identifier=None, caption_template=None) -> bool | str:
        """Refuses typed words, and a folder that is not there, when the graph is queued."""
        return answer(("folder", find_folder, folder),
                      ("identifier", lambda text: check_name(text, CAPTION_TEMPLATE), identifier),
                      ("caption_template", lambda text: check_name("linked", text), caption_template))

    @classmethod
    def fingerprint_inputs(cls, folder=None, **_) -> str | float:
        """A digest of the files, so that a changed photo or caption is read again; never the same for a linked name."""
        return fingerprint(folder_state, folder)

    @classmethod
    def execute(cls, folder, identifier, class_noun, caption_template, data=None, subject=None,
                captions=None) -> io.NodeOutput:
        identifier, class_noun, caption_template = clean_prompts(
            identifier=identifier[0], class_noun=class_noun[0], caption_template=caption_template[0])
        captions = [clean_prompt(text, "captions") for text in captions or () if text is not None]
        subjects, warnings = read_subjects(find_folder(folder[0]), identifier, class_noun, caption_template,
                                           next(filter(None, data or ()), DataOptions()))
        subjects = with_captions_in_order(subjects, captions)
        for one in subjects:
            warnings += [*warnings_about(one.identifier, one.class_noun),
                         *warnings_about_data(one), *warnings_about_photos(one)]
        said = "\n".join(f"{len(one.photos)} photos of '{one.caption}'" for one in subjects)
        show_notice(cls.hidden.unique_id, said, warnings)
        upstream = tuple(member for chain in subject or () for member in chain or ())
        return io.NodeOutput((*upstream, *subjects), *images_of(subjects),
                             ui=shown_pictures(photo_sheet(subjects), cls))
