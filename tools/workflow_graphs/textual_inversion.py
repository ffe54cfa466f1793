"""Workflow 6: Textual Inversion, token vectors alone."""

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
    pick_identifier,
    prompt_about,
    sample,
    several_photos,
    train,
)

VECTORS = {"vectors": 4, "start": "word", "start_text": "{noun}", "learning_rate": 0.01}


def textual_inversion() -> Graph:
    """Photos to an embedding file and pictures; the model itself does not learn."""
    graph = Graph("06 Your subject as a new word (Textual Inversion)", groups=THREE_STEPS)
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 0, identifier)
    vectors = graph.add(1, "PersonalizeTokenVectors", VECTORS)
    trainer = train(graph, 1, base, subject[0], None, "pocket_dog_inversion",
                    options={"train_unet": False, "text_encoder_rate": 0.0}, token_vectors=vectors[0], steps=300,
                    batch=2)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    positive = encode(graph, 2, mine.clip, prompt_about(graph, 2, "in the jungle", trainer[7]), "Positive")
    keep(graph, 1, trainer, f"{FILE}_inversion")
    start = Start(positive, encode(graph, 2, mine.clip, "", "Negative"), empty_latent(graph, 2))
    sample(graph, 2, mine, start, "Your subject", "pocket_dog_inversion")
    explain(graph, [
        "Only the *meaning of a word* is learned: *train_unet* is off in Training Options, and **Token Vectors** says "
        "how many vectors stand for the subject. The result is an embedding of a few kilobytes; after Save "
        "Personalization every stock prompt reads it as `embedding:personalize/pocket_dog_inversion`.",
        "The trainer's *identifier* output is how to write the subject in this graph.",
        "A word holds less of a subject than an adapter does: here the colour of its back comes out, and not the rest. "
        "Compare template 01."],
            method="textual_inversion")
    return graph
