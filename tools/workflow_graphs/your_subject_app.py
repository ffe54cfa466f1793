"""Workflow 0a: the same as 0, opened in the editor's app mode."""

from __future__ import annotations

from ..graphs import App, Graph
from .parts import CHECKPOINT, Loaded
from .your_subject import FAMILIES, GROUPS, from_photos, recipe_lines


def your_subject_app() -> Graph:
    """A form with six fields, and the pictures."""
    graph = Graph("00a Your subject as an app", groups=GROUPS)
    node = graph.add(0, "CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT}, title="Load Checkpoint: your model")
    learned, prompt, saved = from_photos(graph, Loaded(node[0], node[1], node[2]))
    graph.app = App(((node, "ckpt_name"), (learned, "photos"), (learned, "what_is_it"), (learned, "kind"),
                     (learned, "effort"), (prompt, "prompt")), (saved,))
    graph.note(0, "\n".join(["The graph of **00 Your subject in three edits**, opened as an app: the menu with the "
                             "workflow's name leaves app mode.", "", "Chosen for you, by model:", "",
                             *recipe_lines(FAMILIES)]), height=330, title="As an app")
    return graph
