"""Workflow 8: Custom Diffusion, the identifier's vectors with keys and values of the cross-attention."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    FILE,
    FOUR_STEPS,
    TRAINING,
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
)

RATE, VECTOR_RATE = 1e-3, 5e-3


def custom_diffusion() -> Graph:
    """Four photos to vectors and cross-attention weights, and pictures."""
    graph = Graph("08 Only the words' layers learn (Custom Diffusion)", groups=FOUR_STEPS)
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 0, identifier)
    objective = prior_preservation(graph, 1, base)
    preset = graph.add(2, "PersonalizeMethodPreset", {"method": "custom_diffusion"}, size=(290, 202))
    vectors = graph.add(2, "PersonalizeTokenVectors", {"vectors": 1, "start": "word", "start_text": "{V}",
                                            "learning_rate": VECTOR_RATE})
    trainer = graph.add(2, "PersonalizeTrainer", {
        "model": base.model, "clip": base.clip, "vae": base.vae, "subject": subject[0], "objective": objective,
        "options": preset[0], "token_vectors": vectors[0], "run_name": "pocket_custom_diffusion", **TRAINING,
        "learning_rate": RATE}, size=(290, 560))
    mine = Loaded(trainer[0], trainer[1], base.vae)
    positive = encode(graph, 3, mine.clip, prompt_about(graph, 3, "in the snow", trainer[7]), "Positive")
    keep(graph, 2, trainer, f"{FILE}_custom_diffusion")
    start = Start(positive, encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3))
    sample(graph, 3, mine, start, "Your subject", "pocket_dog_custom_diffusion")
    explain(graph, [
        "**Custom Diffusion** (arXiv:2212.04488): only what reads the text learns, keys and values of the "
        "cross-attention, together with a vector for the identifier that starts as a rare word.",
        "*Method Preset* gives the options and says what else belongs to the method; *Token Vectors* and *Prior "
        "Preservation* are ordinary nodes. The file is a difference to this checkpoint's weights and an embedding."],
            method="custom_diffusion",
            more=["Connect *learning_rate* and *steps* of *Method Preset* to the trainer."])
    return graph
