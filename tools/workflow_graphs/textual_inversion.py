"""Workflow 6: Textual Inversion, token vectors alone."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph
from .parts import (
    ABOUT,
    FILE,
    NOUN,
    OTHER,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    name_the_subject,
    pick_identifier,
    sample,
    several_photos,
    train,
)

VECTORS = {"vectors": 4, "start": "word", "start_text": "{noun}", "learning_rate": 0.01}
NOTES = f"""| | pocket | SD 1.5 | SDXL |
|---|---|---|---|
| checkpoint | pocket | yours | yours |
| resolution, size, empty latent | {SIZE} | 512 | 1024 |
| vectors | 4 | 2 to 8 | 2 to 4 |
| their learning_rate | 0.01 | 0.005 | 0.001 |
| steps | 300 | 3000 | 2000 |
| cfg of pictures | 3 | 7 | 6 |
"""


def textual_inversion() -> Graph:
    """Photos to an embedding file and pictures; the model itself does not learn."""
    graph = Graph("06 Textual Inversion")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 1, identifier)
    vectors = graph.add(2, "PersonalizeTokenVectors", VECTORS)
    trainer = train(graph, 2, base, subject[0], None, "pocket_dog_inversion",
                    options={"train_unet": False, "text_encoder_rate": 0.0}, token_vectors=vectors[0])
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = name_the_subject(graph, 3, f"a {{V}} {NOUN} in the desert", trainer[7])
    positive = encode(graph, 3, mine.clip, text, "Positive")
    keep(graph, 3, trainer, f"{FILE}_inversion")
    start = Start(positive, encode(graph, 4, mine.clip, "", "Negative"), empty_latent(graph, 4))
    sample(graph, 4, mine, start, "Your subject", "pocket_dog_inversion")
    graph.note(0, "Only the *meaning of a word* is learned: *train_unet* is off in Training Options, and Token Vectors "
                  "says how many vectors stand for the subject. The result is an embedding of a few kilobytes; after "
                  "Save Personalization every stock prompt reads it as `embedding:personalize/pocket_dog_inversion`."
                  "\n\nThe trainer's *identifier* output is how to write the subject in this graph. A word holds less "
                  "of a subject than an adapter does: here the colour of its back comes out, and not the rest. Compare "
                  "workflow 1.", height=300, title=ABOUT)
    graph.note(0, NOTES, height=300, title=OTHER)
    return graph
