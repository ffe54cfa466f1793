"""Workflow 8: Custom Diffusion, the identifier's vectors with keys and values of the cross-attention."""

from __future__ import annotations

from ..graphs import Graph
from .parts import (
    ABOUT,
    FILE,
    NOUN,
    OTHER,
    OTHER_MODELS,
    TRAINING,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    name_the_subject,
    pick_identifier,
    prior_preservation,
    sample,
    several_photos,
)

RATE, VECTOR_RATE = 1e-3, 5e-3


def custom_diffusion() -> Graph:
    """Four photos to vectors and cross-attention weights, and pictures."""
    graph = Graph("08 Custom Diffusion")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 1, identifier)
    objective = prior_preservation(graph, 2, base)
    preset = graph.add(3, "PersonalizeMethodPreset", {"method": "custom_diffusion"}, size=(315, 220))
    vectors = graph.add(3, "PersonalizeTokenVectors", {"vectors": 1, "start": "word", "start_text": "{V}",
                                            "learning_rate": VECTOR_RATE})
    trainer = graph.add(3, "PersonalizeTrainer", {
        "model": base.model, "clip": base.clip, "vae": base.vae, "subject": subject[0], "objective": objective,
        "options": preset[0], "token_vectors": vectors[0], "run_name": "pocket_custom_diffusion", **TRAINING,
        "learning_rate": RATE}, size=(315, 620))
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the desert", identifier)
    positive = encode(graph, 4, mine.clip, text, "Positive")
    keep(graph, 4, trainer, f"{FILE}_custom_diffusion")
    start = Start(positive, encode(graph, 5, mine.clip, "", "Negative"), empty_latent(graph, 5))
    sample(graph, 5, mine, start, "Your subject", "pocket_dog_custom_diffusion")
    explain(graph)
    return graph


def explain(graph: Graph) -> None:
    """The notes."""
    graph.note(0, "**Custom Diffusion** (arXiv:2212.04488): only what reads the text learns, keys and values of the "
                  "cross-attention, together with a vector for the identifier that starts as a rare word. Class images "
                  "keep 'a dog' from becoming *your* dog.\n\n*Method Preset* gives the options and says what else "
                  "belongs to the method; *Token Vectors* and *Prior Preservation* are ordinary nodes. The file is a "
                  "difference to this checkpoint's weights and a textual inversion.", height=300, title=ABOUT)
    graph.note(0, f"{OTHER_MODELS}\nCustom Diffusion on SD 1.5: learning_rate 1e-5, Token Vectors 1e-5, 500 steps at "
                  "batch 1 or 250 at 2, 200 class images. Connect *learning_rate* and *steps* of *Method Preset* to "
                  "the trainer.", height=380, title=OTHER)
