"""Workflow 10: two objects in one photo, each with a mask and words of its own."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph, Link, Node
from .notes import explain
from .parts import (
    FILE,
    NOUN,
    PHOTO_SIZE,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    pick_identifier,
    sample,
    train,
)

SECOND_NOUN = "backpack"
RESOLUTION = 136
"""The photo is twice as wide as high: a bucket of 96 x 192 pixels, in which each object has its usual size."""
GROUPS = {0: "1 Model, words", 1: "2 Photo and its objects", 2: "3 Train", 3: "4 Draw each, and both"}
MASKED = {NOUN: "personalize_two_objects_dog.png", SECOND_NOUN: "personalize_two_objects_backpack.png"}

ABOUT = (
    "Several objects in **one photo**: an *Object Mask* for each, chained, and a *Scene Photo*. Every step shows the "
    "whole photo under a caption that names all of them, and beside it two of the objects cut out, each under its own "
    "words (Lu, Xie, Guo 2024, eq. 5).",
    "Objects that are in sight of each other are learned apart only because of the masks: keep them tight.")
MASKS = (
    "Instead of painting, **SAM3 Detect** (a SAM 3 checkpoint, an object's name through *CLIP Text Encode*) gives the "
    "mask of what is named; for one subject, **Remove Background**. Both are stock nodes and need a model file that "
    "ComfyUI does not bring. Look at their MASK with *Preview Mask* first.",)


def two_objects_from_one_photo() -> Graph:
    """One photo of two objects, two masks: pictures of each alone, and of both."""
    graph = Graph("10 Two subjects from one photo", groups=GROUPS)
    base = load_checkpoint(graph)
    words = {NOUN: pick_identifier(graph, base.clip), SECOND_NOUN: second_identifier(graph, base.clip)}
    subject = scene(graph, words)
    objective = graph.add(1, "MaskedLoss", {"background": "weight", "object_term": True, "objects_per_step": 2})
    trainer = train(graph, 2, base, subject, objective[0], "pocket_two_objects", batch=1, steps=300,
                    resolution=RESOLUTION)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    negative, latent = encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3)
    for number, noun, place in ((1, NOUN, "in the jungle"), (2, SECOND_NOUN, "on the beach")):
        positive = prompt(graph, mine.clip, trainer, f"a {{V{number}}} {noun} {place}", f"The {noun}, alone")
        sample(graph, 3, mine, Start(positive, negative, latent), f"The {noun} alone", f"pocket_two_objects_{noun}")
    both = prompt(graph, mine.clip, trainer, f"a {{V1}} {NOUN} and a {{V2}} {SECOND_NOUN}", "Both of them")
    wide = graph.add(3, "EmptyLatentImage", {"width": 2 * SIZE, "height": SIZE, "batch_size": 2})[0]
    sample(graph, 3, mine, Start(both, negative, wide), "Both", "pocket_two_objects_both")
    keep(graph, 3, trainer, f"{FILE}_two_objects")
    explain(graph, ABOUT, photos=1, more=MASKS, groups=(0, 3))
    return graph


def second_identifier(graph: Graph, clip: Link) -> Link:
    """A rare word for the second object."""
    return graph.add(0, "IdentifierPicker", {"clip": clip, "class_noun": SECOND_NOUN, "seed": 1},
                     title="Identifier of the second object")[0]


def scene(graph: Graph, words: dict[str, Link]) -> Link:
    """The photo with its objects: each has a Load Image of its own, in which it is painted; all show the photo."""
    photos: list[Link] = []
    objects: dict[str, object] = {}
    for noun, identifier in words.items():
        masked = graph.add(1, "LoadImage", {"image": MASKED[noun]}, size=PHOTO_SIZE, title=f"The {noun}, painted")
        photos.append(masked[0])
        node = graph.add(1, "PersonalizeObjectMask",
                         {"mask": masked[1], "identifier": identifier, "class_noun": noun, **objects},
                         title=f"Object Mask: the {noun}")
        objects = {"objects": node[0]}
    data = graph.add(1, "PersonalizeDataOptions", {"shape": "buckets"})
    return graph.add(1, "PersonalizeScenePhoto", {"image": photos[0], "data": data[0], **objects})[0]


def prompt(graph: Graph, clip: Link, trainer: Node, text: str, title: str) -> Link:
    """A prompt in which {V1} and {V2} become the identifiers."""
    return graph.add(3, "PersonalizePromptWithSubject", {"clip": clip, "personalization": trainer[5], "prompt": text},
                     title=title)[0]
