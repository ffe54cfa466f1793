"""Workflow 5: ICO, image-specific contexts."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    FILE,
    FOUR_STEPS,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    pick_identifier,
    prior_preservation,
    prompt_about,
    sample,
    several_photos,
    train,
)

CONTEXTS = {"prefix": 2, "suffix": 1, "identifier_vectors": 4, "start": "words", "rate_factor": 10.0,
            "identifier_rate_factor": 1.0, "prefix_words": "a", "suffix_words": "on"}


def learned_contexts() -> Graph:
    """Photos, each with contexts of its own, to an adapter, V's vectors and pictures."""
    graph = Graph("05 Photos with busy backgrounds (ICO)",
                  groups={**FOUR_STEPS, 1: "2 Class, contexts", 3: "4 Draw, keep"})
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 0, identifier)
    prior = prior_preservation(graph, 1, base)
    contexts = graph.add(1, "PersonalizeLearnedContexts", {**CONTEXTS, "objective": prior})
    trainer = train(graph, 2, base, subject[0], contexts[0], "pocket_dog_ico")
    mine = Loaded(trainer[0], trainer[1], base.vae)
    positive = encode(graph, 3, mine.clip, prompt_about(graph, 3, "in the jungle", trainer[7]), "Positive")
    keep(graph, 3, trainer, f"{FILE}_ico")
    start = Start(positive, encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3))
    sample(graph, 3, mine, start, "Your subject", "pocket_dog_ico")
    explain(graph, [
        "No caption says what is in *this* photo besides your subject: the grass, the light, the pose. **Learned "
        "Contexts** gives every photo a few vectors of its own that can take that up, so that less of it sticks to the "
        "subject. They are not used afterwards; only V's vectors and the adapter are.",
        "Contexts start from words that the text encoder knows.",
        "Write the subject as the trainer's *identifier* output says (`embedding:...`)."],
            method="ico",
            more=["Published contexts start from *a photo of a* and *.*; choose cross_attention_kv, and "
                  "*detach_begin_token* on, in Training Options."])
    return graph
