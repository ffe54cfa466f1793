"""Workflow 17: three ways to draw the same prompts, side by side and blind, on a page for raters."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph, Link
from .notes import explain
from .parts import (
    EXAMPLE_FILE,
    NOUN,
    STAND_IN,
    Loaded,
    Start,
    encode,
    load_checkpoint,
    sample,
    several_photos,
)

TEMPLATES = "\n".join(f"a {{V}} {{noun}} {place}" for place in (
    "on the beach", "in the snow", "in the desert", "in the jungle", "at night", "wearing a hat"))


GROUPS = {0: "1 Model, subject, photos", 2: "2 Prompts", 3: "3 Draw in three ways", 4: "4 Compare"}


def paired_comparison() -> Graph:
    """The base model, the personalized one, and the same with DCI, compared by people."""
    graph = Graph("17 Which do people prefer", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    mine = Loaded(loaded[0], loaded[1], base.vae)
    subject = several_photos(graph, 0, loaded[2])
    prompts = graph.add(2, "PersonalizeSubjectPrompts", {
        "kind": "your own", "identifier": loaded[2], "class_noun": NOUN, "templates": TEMPLATES},
                        title="Prompts: one per line")
    latent = graph.add(2, "EmptyLatentImage", {"width": SIZE, "height": SIZE, "batch_size": 1})[0]
    dci = graph.add(2, "DCIConditioning", {"model": mine.model, "clip": mine.clip, "prompt": prompts[0],
                                           "identifier": loaded[2], "class_noun": NOUN, "auxiliary_noun": STAND_IN,
                                           "omega": 1.0, "window": -1.0, "shared_guidance": True})
    plain = encode(graph, 2, mine.clip, prompts[0], "Positive, personalized")
    without = encode(graph, 2, base.clip, prompts[1], "Positive, base model")
    pictures = {
        "base model": _sample(graph, base, without, latent, "Base model"),
        "personalized": _sample(graph, mine, plain, latent, "Personalized"),
        "with DCI": _sample(graph, mine._replace(model=dci[0]), dci[1], latent, "Personalized, with DCI"),
    }
    named = {f"{kind}_{letter}": value for letter, (name, images) in zip("abc", pictures.items(), strict=True)
             for kind, value in (("images", images), ("name", name))}
    graph.add(4, "PersonalizePairedComparison", {
        **named, "subject": subject[0], "prompts": prompts[0], "title": "My dog",
        "file_name": "comparisons/pocket_dog"}, size=(400, 450), title="A page")
    explain(graph, [
        "Draws six prompts in three ways with the same seed, and writes **one HTML file** into *output/comparisons*: "
        "open it in a browser, or send it to somebody. It shows two pictures at a time without saying whose they are, "
        "and asks:",
        "- which shows the subject?\n- which agrees with the text?",
        "Each rater downloads a CSV. Drop all of them on the page's *results* part: win rates with intervals. The "
        "pictures come as lists, one per prompt; nothing else is needed for more prompts."],
            more=["*Subject Prompts* has the papers' prompts, too."])
    return graph


def _sample(graph: Graph, models: Loaded, positive: Link, latent: Link, title: str) -> Link:
    """A list of pictures, one per prompt; shown as they are drawn."""
    start = Start(positive, encode(graph, 3, models.clip, "", f"Negative: {title}"), latent)
    return sample(graph, 3, models, start, title, "pocket_dog_compared")
