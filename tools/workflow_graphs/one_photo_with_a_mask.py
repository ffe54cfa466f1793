"""Workflow 2: one photo and a painted mask to pictures."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    FILE,
    THREE_STEPS,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    masked_photo,
    pick_identifier,
    prompt_about,
    sample,
    train,
)


def one_photo_with_a_mask() -> Graph:
    """One photo and a painted mask to pictures: the object-specific loss."""
    graph = Graph("02 Your subject from one photo and a mask", groups={**THREE_STEPS, 0: "1 Photo and mask"})
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = masked_photo(graph, identifier)
    objective = graph.add(1, "MaskedLoss", {"background": "weight", "object_term": True})
    trainer = train(graph, 1, base, subject[0], objective[0], "pocket_dog_one_photo", batch=1, steps=200)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    positive = encode(graph, 2, mine.clip, prompt_about(graph, 2, "in the jungle", identifier), "Positive")
    keep(graph, 1, trainer, f"{FILE}_one_photo")
    start = Start(positive, encode(graph, 2, mine.clip, "", "Negative"), empty_latent(graph, 2))
    sample(graph, 2, mine, start, "Your subject", "pocket_dog_one_photo")
    explain(graph, [
        "One photo is enough when the loss knows which pixels are the subject. Right-click your photo, *Open in Mask "
        "Editor*, and paint the **subject**.",
        "*object_term* adds the one-shot paper's loss on the cut-out subject; it wants the whole image beside it: "
        "*background* on weight, *background_weight* 1. Without it, *background* on ignore simply leaves the "
        "background out."], photos=1)
    return graph
