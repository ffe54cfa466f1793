"""Try a subject out: the papers' kinds of prompts, as a list that runs through stock nodes one by one.

DreamBooth (arXiv:2208.12242), 4.2 and its dataset's evaluation prompts.
"""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from ..core.errors import require
from ..core.subject.prompts import KINDS, fill_prompts, subject_prompts
from ..core.wording import clean_prompt, clean_prompts
from .bridge.queue.queue_checks import answer

OWN = "your own"


class SubjectPrompts(io.ComfyNode):
    """Identifier, class noun and a kind to lists of prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeSubjectPrompts",
            display_name="Subject Prompts",
            category="personalize",
            description="Prompts that try a subject out, by the papers' kinds: other places, accessories, properties, "
                        "art, expressions, viewpoints, crosses; DreamBooth's 25 for objects and 25 for live subjects. "
                        "The list runs through CLIP Text Encode and KSampler one by one.",
            search_aliases=["evaluation prompts", "prompt list", "dreambench", "recontextualization"],
            inputs=[
                io.Combo.Input("kind", options=[*KINDS, OWN], default=next(iter(KINDS)),
                               tooltip=f"What is tried; '{OWN}' fills the templates below. Default DreamBooth's 25 for "
                                       "objects."),
                io.String.Input("identifier", default="sks",
                                tooltip="V, as the trainer's or the loader's output says. Default sks."),
                io.String.Input("class_noun", default="dog", tooltip="What the subject is. Default dog."),
                io.Int.Input("count", default=0, min=0, max=1000,
                             tooltip="The first so many prompts, 0 to 1000; 0 (default) = all."),
                io.String.Input("templates", multiline=True, default="", advanced=True,
                                tooltip=f"One per line, with {{V}} and {{noun}}, for '{OWN}'. Default empty."),
            ],
            outputs=[
                io.String.Output("prompts", display_name="prompts", is_output_list=True,
                                 tooltip="A list: every node behind it runs once per prompt."),
                io.String.Output("class_prompts", display_name="class_prompts", is_output_list=True,
                                 tooltip="The same without the identifier, in the same order: what CLIP-T compares "
                                         "with, and what the class itself looks like there."),
            ],
        )

    @classmethod
    def validate_inputs(cls, kind=None, templates=None) -> bool | str:
        """Refuse an unknown kind, and bad templates, before anything runs."""
        own = templates if kind == OWN else None
        return answer(("kind", check_kind, kind),
                      ("templates", lambda text: fill_prompts(_lines(text), "sks", "dog"), own))

    @classmethod
    def execute(cls, kind, identifier, class_noun, count, templates) -> io.NodeOutput:
        identifier, class_noun = clean_prompts(identifier=identifier, class_noun=class_noun)
        lists = [list(_filled(kind, name, class_noun, count, templates)) for name in (identifier, "")]
        return io.NodeOutput(*lists, ui=ui.PreviewText("\n".join(lists[0])))


def check_kind(kind: str) -> None:
    """Refuse what is no kind of prompts."""
    require(kind in (*KINDS, OWN), "kind", repr(kind), "one of " + ", ".join((*KINDS, OWN)), "Choose one of them.")


def _filled(kind, identifier, class_noun, count, templates):
    if kind != OWN:
        return subject_prompts(kind, identifier, class_noun, count)
    return fill_prompts(_lines(templates)[: count or None], identifier, class_noun)


def _lines(templates):
    """The lines that hold something.

    Raises:
        InputError: there is none.
    """
    lines = [line.strip() for line in clean_prompt(templates, "templates").splitlines() if line.strip()]
    require(bool(lines), "templates", "no line", "one or more lines with {V} and {noun}",
            "Write for example 'a {V} {noun} in the snow', or choose a kind.")
    return lines
