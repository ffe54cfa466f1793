"""Ask people which method's pictures are better, blind, as the papers' user studies do (Jin et al., ECCV 2024): a page
with the pictures inside, which shows the win rates, too."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..core.errors import require
from ..core.evaluation.paired_page import MOST_PHOTOS, check_names, make_page
from ..core.wording import clean_text
from .bridge.evaluation.paired_pages import (
    as_raters_read,
    check_page_name,
    prompt_of_each,
    reference_photos,
    save_page,
    stacked_pictures,
)
from .bridge.notices import show_notice
from .bridge.queue.queue_checks import answer
from .bridge.sockets import SUBJECT

LETTERS = "abcd"


class PairedComparison(io.ComfyNode):
    """Pictures of two to four methods to one HTML file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizePairedComparison",
            display_name="Paired Comparison",
            category="personalize",
            description="Writes a page that shows two methods' pictures side by side, without saying which is which, "
                        "and asks which shows the subject and which agrees with the text. Raters download their "
                        "answers; the same page turns them into win rates. One HTML file that needs no network.",
            search_aliases=["user study", "a/b test", "preference", "blind test", "win rate", "side by side"],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                *(_pictures(letter) for letter in LETTERS),
                SUBJECT.Input("subject", optional=True,
                              tooltip="Whose photos raters see; its identifier is taken out of the prompts. This, or "
                                      "reference_images, or both."),
                io.Image.Input("reference_images", optional=True,
                               tooltip=f"Photos of the subject, where there is no SUBJECT. {MOST_PHOTOS} are shown."),
                *(_name(letter) for letter in LETTERS),
                *_widgets(),
            ],
            outputs=[io.String.Output("file", display_name="file", tooltip="The page's path. Open it in a browser.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name_a=None, name_b=None, name_c=None, name_d=None, prompts=None, title=None,
                        file_name=None) -> bool | str:
        """Refuse texts that cannot be used before anything is drawn."""
        names = [_first(name) for name in (name_a, name_b, name_c, name_d)]
        known = [name if isinstance(name, str) else f"linked {letter}"
                 for letter, name in zip(LETTERS, names, strict=True)]
        return answer(("name_a", lambda _: check_names(known), known[0]),
                      ("prompts", lambda text: check_not_empty("prompts", text), prompts),
                      ("title", lambda text: check_not_empty("title", text), title),
                      ("file_name", check_page_name, file_name))

    @classmethod
    def execute(cls, images_a, images_b, name_a, name_b, name_c, name_d, prompts, title, seed, pairs_per_sheet,
                file_name, images_c=None, images_d=None, subject=None, reference_images=None) -> io.NodeOutput:
        sockets = (images_a, images_b, images_c, images_d)
        names = [[clean_text(text, f"name_{letter}") for text in name]
                 for letter, name in zip(LETTERS, (name_a, name_b, name_c, name_d), strict=True)]
        prompts, title = ([clean_text(text, name) for text in texts]
                          for name, texts in (("prompts", prompts), ("title", title)))
        given = [(name[0], images) for name, images in zip(names, sockets, strict=True) if images]
        check_names([name for name, _ in given])
        check_page_name(file_name[0])
        subjects = [member for chain in subject or () if chain for member in chain]
        photos = reference_photos(subjects, [batch for batch in reference_images or () if batch is not None])
        require(bool(photos), "subject", "neither a subject nor reference images", "photos to compare with",
                "Connect SUBJECT or reference_images.")
        methods = {name: stacked_pictures(name, images) for name, images in given}
        texts = as_raters_read(prompt_of_each(prompts, images_a), subjects)
        page = make_page(methods, texts, photos, title[0], seed[0], pairs_per_sheet[0])
        return _shown(cls, save_page(file_name[0], page), len(photos))


def _shown(cls, path, photos: int) -> io.NodeOutput:
    """The path, on the node as well."""
    warnings = [f"{MOST_PHOTOS} of {photos} photos are shown"] if photos > MOST_PHOTOS else []
    show_notice(cls.hidden.unique_id, str(path), warnings)
    return io.NodeOutput(str(path), ui=ui.PreviewText(f"{path}\nOpen it in a browser, or send it to the raters."))


def check_not_empty(name: str, text: str) -> None:
    """Refuse an empty text."""
    require(bool(text.strip()), name, "an empty text", "what raters should read", "Write it, or connect it.")


def _pictures(letter: str) -> io.Input:
    optional = letter not in "ab"
    return io.Image.Input(f"images_{letter}", optional=optional,
                          tooltip=f"Method {letter.upper()}'s pictures: a batch, or a list as it comes from a list of "
                                  "prompts. Every method draws the same prompts and seeds, in one size."
                                  + (" Optional." if optional else ""))


def _name(letter: str) -> io.Input:
    return io.String.Input(f"name_{letter}", default=f"method {letter.upper()}", advanced=letter not in "ab",
                           tooltip=f"What images_{letter} are called in the results; raters do not see it. Another one "
                                   f"for each. Default method {letter.upper()}.")


def _widgets() -> list[io.Input]:
    """What is asked, and how it is dealt out."""
    return [
        io.String.Input("prompts", multiline=True, default="",
                        tooltip="What the pictures should show: one line for each picture, one for each batch of a "
                                "list, or one for all. Connect Subject Prompts, or type. Default empty."),
        io.String.Input("title", default="Which picture is better?",
                        tooltip="Headline of the page. Do not name the methods in it."),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
                     tooltip="Of the sheets and the pictures' order in the file, 0 to 2^64 - 1. Each rater's order "
                             "and sides depend on their name as well. Default 0."),
        io.Int.Input("pairs_per_sheet", default=25, min=0, max=1000,
                     tooltip="At most so many pairs for one sitting, 0 to 1000; 0 = all. Each is asked twice. "
                             "Default 25."),
        io.String.Input("file_name", default="comparisons/my_subject",
                        tooltip="Below ComfyUI's output folder, without ending; / makes a folder. Another page of that "
                                "name is never replaced: the new one gets a suffix."),
    ]


def _first(values):
    """The one value of a widget; None where another node will give it."""
    return values[0] if isinstance(values, list | tuple) else values
