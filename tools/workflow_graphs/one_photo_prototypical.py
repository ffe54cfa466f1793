"""Workflow 7: one photo, prototypical embedding, object-specific loss, class-characterizing regularisation."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    FILE,
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

GROUPS = {0: "1 Photo and mask", 1: "2 Start and losses", 2: "3 Train", 3: "4 Draw"}


def one_photo_prototypical() -> Graph:
    """One masked photo to pictures, by all three parts of the one-shot paper."""
    graph = Graph("07 One photo, many new places (prototype)", groups=GROUPS)
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    encoder = graph.add(1, "PersonalizeImageTextEncoder", {"path": "pocket"})
    subject = masked_photo(graph, identifier)
    inputs = {"subject": subject[0], "image_text": encoder[0], "clip": base.clip, "vectors": 4, "learning_rate": 0.002}
    prototype = graph.add(1, "PersonalizePrototypicalEmbedding", inputs)
    masked = graph.add(1, "MaskedLoss", {"background": "weight", "object_term": True})
    objective = graph.add(1, "PersonalizeClassCharacterizing", {"alpha": 1.0, "probability": 1.0,
                                                               "objective": masked[0]})
    trainer = train(graph, 2, base, subject[0], objective[0], "pocket_dog_prototypical",
                    options={"text_encoder_rate": 0.0}, batch=1, steps=150, token_vectors=prototype[0],
                    image_text=encoder[0])
    mine = Loaded(trainer[0], trainer[1], base.vae)
    positive = encode(graph, 3, mine.clip, prompt_about(graph, 3, "in the jungle", trainer[7]), "Positive")
    keep(graph, 2, trainer, f"{FILE}_prototypical")
    start = Start(positive, encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3))
    sample(graph, 3, mine, start, "Your subject", "pocket_dog_prototypical")
    explain(graph, [
        "The one-shot paper, whole:",
        "- **Prototypical Embedding** looks at the photo and the painted subject through an image-text encoder and "
        "finds vectors that read like both, and like a dog; training starts there\n- **Masked Loss** with "
        "*object_term* learns the painted pixels\n- **Class Characterizing** keeps the vectors close to 'dog', so "
        "that the subject can still do what dogs do",
        "The encoder must be the CLIP that the checkpoint's text encoder comes from, with both projections."],
            method="one_shot", photos=1, more=["Image-Text Encoder: the folder of clip-vit-large-patch14."])
    return graph
