"""Workflow 19: one photo, an edit model's views of it, their captions, a LoRA."""

from __future__ import annotations

from ..graphs import Graph
from .kontext import NEEDED, draw, empty, load_kontext, reference, show, train
from .notes import explain
from .parts import (
    FILE,
    NOUN,
    PHOTO_SIZE,
    PHOTOS,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    pick_identifier,
    prompt_about,
    sample,
)

VIEWS = "\n".join(f"a {{V}} {{noun}} {view}" for view in (
    "seen from the side, on a beach", "from behind, in a forest", "lying on a sofa", "in the snow, from above"))
KEEP = f"Show the same {NOUN}, its colours and markings unchanged: "


def views_from_an_edit_model() -> Graph:
    """One photo to views to a personalization and pictures."""
    graph = Graph("19 One photo, an edit model's views",
                  groups={0: "1 Photo and model", 1: "2 Views and captions", 2: "3 Train", 3: "4 Draw"})
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photo = graph.add(0, "LoadImage", {"image": PHOTOS[0]}, size=PHOTO_SIZE, title="One photo")
    editor = load_kontext(graph, 0)
    lines = {"kind": "your own", "identifier": identifier, "class_noun": NOUN, "templates": VIEWS}
    texts = graph.add(1, "PersonalizeSubjectPrompts", lines, size=(290, 230), title="Views: one line each")
    asked = graph.add(1, "StringConcatenate", {"string_a": KEEP, "string_b": texts[1], "delimiter": ""},
                      size=(290, 206), title="What the edit model is told")
    views = draw(graph, 1, editor, asked[0], empty(graph, 1), reference(graph, 1, editor.vae, photo[0]))
    show(graph, 1, views, "Views", "pocket_dog_views")
    subject = graph.add(1, "PersonalizeSubjectPhotos", {"images.image0": views, "identifier": identifier,
                                                        "class_noun": NOUN, "captions": texts[0]}, size=(290, 290))
    trainer = train(graph, 2, base, subject[0], "pocket_dog_views")
    mine = Loaded(trainer[0], trainer[1], base.vae)
    keep(graph, 2, trainer, f"{FILE}_views")
    positive = encode(graph, 3, mine.clip, prompt_about(graph, 3, "in the desert", identifier), "Positive")
    start = Start(positive, encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3))
    sample(graph, 3, mine, start, "Your subject", "pocket_dog_views_lora")
    explain(graph, [
        "An edit model draws your one photo's subject from other sides and in other places; a LoRA then learns from "
        "these views. Each line of *Views* is an order to the edit model and, with the identifier, the caption of what "
        "it drew.",
        NEEDED,
        "**Look at the views before you train** (*Personalize Trainer*: mute it for the first run). A LoRA learns the "
        "edit model's mistakes, too: delete lines that go wrong, or change *seed*.",
        "Qwen-Image-Edit does as well: *TextEncodeQwenImageEditPlus* in place of *CLIP Text Encode* and *Set Reference "
        "Latent*."])
    return graph
