"""Workflow 10: two objects in one photo, each with a mask and words of its own."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph, Link
from .parts import (
    ABOUT,
    FILE,
    NOUN,
    OTHER,
    OTHER_MODELS,
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
PHOTO = "personalize_two_objects.png"
MASKED = {NOUN: "personalize_two_objects_dog.png", SECOND_NOUN: "personalize_two_objects_backpack.png"}


def two_objects_from_one_photo() -> Graph:
    """One photo of two objects, two masks: pictures of each alone, and of both."""
    graph = Graph("10 Two objects from one photo")
    base = load_checkpoint(graph)
    words = {NOUN: pick_identifier(graph, base.clip), SECOND_NOUN: second_identifier(graph, base.clip)}
    subject = scene(graph, words)
    objective = graph.add(1, "MaskedLoss", {"background": "weight", "object_term": True, "objects_per_step": 2})
    trainer = train(graph, 2, base, subject, objective[0], "pocket_two_objects", batch=1, steps=300,
                    resolution=RESOLUTION)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    keep(graph, 3, trainer, f"{FILE}_two_objects")
    negative, latent = encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3)
    for noun, context in ((NOUN, "in the jungle"), (SECOND_NOUN, "on the beach")):
        text = prompt(graph, f"a {{V}} {noun} {context}", {"{V}": words[noun]})
        start = Start(encode(graph, 4, mine.clip, text, f"The {noun} alone"), negative, latent)
        sample(graph, 4, mine, start, f"The {noun} alone", f"pocket_two_objects_{noun}")
    both = prompt(graph, f"a {{V1}} {NOUN} and a {{V2}} {SECOND_NOUN}", {"{V1}": words[NOUN],
                                                                        "{V2}": words[SECOND_NOUN]})
    wide = graph.add(6, "EmptyLatentImage", {"width": 2 * SIZE, "height": SIZE, "batch_size": 2})[0]
    start = Start(encode(graph, 6, mine.clip, both, "Both"), negative, wide)
    sample(graph, 6, mine, start, "Both", "pocket_two_objects_both")
    explain(graph)
    return graph


def second_identifier(graph: Graph, clip: Link) -> Link:
    """A rare word for the second object."""
    return graph.add(0, "IdentifierPicker", {"clip": clip, "class_noun": SECOND_NOUN, "seed": 1},
                     title="Identifier of the second object")[0]


def scene(graph: Graph, words: dict[str, Link]) -> Link:
    """The photo with its objects: each has a Load Image of its own, in which it is painted."""
    photo = graph.add(0, "LoadImage", {"image": PHOTO}, size=(280, 320), title="One photo")
    objects: dict[str, object] = {}
    for noun, identifier in words.items():
        masked = graph.add(1, "LoadImage", {"image": MASKED[noun]}, size=(280, 320), title=f"The {noun}, painted")
        node = graph.add(1, "PersonalizeObjectMask",
                         {"mask": masked[1], "identifier": identifier, "class_noun": noun, **objects},
                         title=f"Object Mask: the {noun}")
        objects = {"objects": node[0]}
    data = graph.add(0, "PersonalizeDataOptions", {"shape": "buckets"})
    return graph.add(1, "PersonalizeScenePhoto", {"image": photo[0], "data": data[0], **objects})[0]


def prompt(graph: Graph, text: str, words: dict[str, Link]) -> Link | str:
    """A prompt in which every {V} becomes its identifier."""
    result: Link | str = text
    for place, identifier in words.items():
        result = graph.add(4, "StringReplace", {"string": result, "find": place, "replace": identifier},
                           title=f"Prompt: {place} is an identifier")[0]
    return result


def explain(graph: Graph) -> None:
    """The notes."""
    graph.note(0, "Several objects in **one photo**: an *Object Mask* for each, chained, and a *Scene Photo*. Every "
                  "step shows the whole photo under a caption that names all of them, and beside it two of the objects "
                  "cut out, each under its own words (Lu, Xie, Guo 2024, eq. 5).\n\nObjects that are in sight of each "
                  "other are learned apart only because of the masks: keep them tight.\n\nThe pocket model's world has "
                  "one thing in each picture: it learns both objects, and mixes their colours where both are wanted.",
               height=320, title=ABOUT)
    graph.note(0, "Instead of painting: **SAM3 Detect** (a SAM 3 checkpoint through *Load Checkpoint*, an object's "
                  "name through *CLIP Text Encode*) gives the mask of what is named, one node for each object. For one "
                  "subject, **Remove Background** (*Load Background Removal Model*, a BiRefNet file in "
                  "`models/background_removal`). Both are stock nodes and need a model file that ComfyUI does not "
                  "bring. Connect their MASK where *Load Image*'s is; look at it with *Preview Mask* first.",
               height=300, title="Masks from ComfyUI's own nodes")
    graph.note(0, OTHER_MODELS, height=300, title=OTHER)
