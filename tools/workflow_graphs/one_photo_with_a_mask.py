"""Workflow 2: one photo and a painted mask to pictures."""

from __future__ import annotations

from ..graphs import Graph
from .parts import (
    ABOUT,
    FILE,
    MASKED_PHOTO,
    NOUN,
    OTHER,
    OTHER_MODELS,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    name_the_subject,
    pick_identifier,
    sample,
    train,
)


def one_photo_with_a_mask() -> Graph:
    """One photo and a painted mask to pictures: the object-specific loss."""
    graph = Graph("02 One photo with a mask")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photo = graph.add(1, "LoadImage", {"image": MASKED_PHOTO}, size=(315, 360), title="One photo, the subject painted")
    subject = graph.add(1, "PersonalizeSubjectPhotos", {"images.image0": photo[0], "masks.mask0": photo[1],
                                             "identifier": identifier, "class_noun": NOUN})
    objective = graph.add(1, "MaskedLoss", {"background": "weight", "object_term": True})
    trainer = train(graph, 2, base, subject[0], objective[0], "pocket_dog_one_photo", batch=1, steps=200)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = name_the_subject(graph, 3, f"a {{V}} {NOUN} in the jungle", identifier)
    positive = encode(graph, 3, mine.clip, text, "Positive")
    keep(graph, 3, trainer, f"{FILE}_one_photo")
    start = Start(positive, encode(graph, 4, mine.clip, "", "Negative"), empty_latent(graph, 4))
    sample(graph, 4, mine, start, "Your subject", "pocket_dog_one_photo")
    graph.note(0, "One photo is enough when the loss knows which pixels are the subject. Right-click your photo, *Open "
                  "in Mask Editor*, and paint the **subject**.\n\n*object_term* adds the one-shot paper's loss on the "
                  "cut-out subject; it wants the whole image beside it: *background* on weight, *background_weight* 1. "
                  "Without it, *background* on ignore simply leaves the background out.", height=280, title=ABOUT)
    graph.note(0, OTHER_MODELS, height=300, title=OTHER)
    return graph
