"""Workflow 7: one photo, prototypical embedding, object-specific loss, class-characterizing regularisation."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph
from .parts import (
    ABOUT,
    FILE,
    MASKED_PHOTO,
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
    train,
)

NOTES = f"""| | pocket | SD 1.5 | SDXL |
|---|---|---|---|
| checkpoint | pocket | yours | yours |
| Image-Text Encoder: path | pocket | clip-vit-large-patch14 | clip-vit-large-patch14 |
| resolution, size, empty latent | {SIZE} | 512 | 1024 |
| learning_rate | 5e-4 | 1e-4 | 1e-4 |
| targets | attention_and_feed_forward | attention | attention |
| steps | 150 | 100 to 300 | 200 |
| cfg of pictures | 3 | 7 | 6 |
"""


def one_photo_prototypical() -> Graph:
    """One masked photo to pictures, by all three parts of the one-shot paper."""
    graph = Graph("07 One photo, prototypical")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    encoder = graph.add(0, "PersonalizeImageTextEncoder", {"path": "pocket"})
    photo = graph.add(1, "LoadImage", {"image": MASKED_PHOTO}, size=(315, 360), title="One photo, the subject painted")
    subject = graph.add(1, "PersonalizeSubjectPhotos", {"images.image0": photo[0], "masks.mask0": photo[1],
                                             "identifier": identifier, "class_noun": NOUN})
    inputs = {"subject": subject[0], "image_text": encoder[0], "clip": base.clip, "vectors": 4, "learning_rate": 0.002}
    prototype = graph.add(2, "PersonalizePrototypicalEmbedding", inputs)
    masked = graph.add(2, "MaskedLoss", {"background": "weight", "object_term": True})
    objective = graph.add(2, "PersonalizeClassCharacterizing", {"alpha": 1.0, "probability": 1.0,
                                                               "objective": masked[0]})
    trainer = train(graph, 3, base, subject[0], objective[0], "pocket_dog_prototypical",
                    options={"text_encoder_rate": 0.0}, batch=1, steps=150, token_vectors=prototype[0],
                    image_text=encoder[0])
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the jungle", trainer[7])
    positive = encode(graph, 4, mine.clip, text, "Positive")
    keep(graph, 4, trainer, f"{FILE}_prototypical")
    start = Start(positive, encode(graph, 5, mine.clip, "", "Negative"), empty_latent(graph, 5))
    sample(graph, 5, mine, start, "Your subject", "pocket_dog_prototypical")
    graph.note(0, "The one-shot paper, whole. **Prototypical Embedding** looks at the photo and the painted subject "
                  "through an image-text encoder and finds vectors that read like both, and like a dog; training "
                  "starts there. **Masked Loss** with *object_term* learns the painted pixels. **Class "
                  "Characterizing** keeps the vectors close to 'dog', so that the subject can still do what dogs "
                  "do.\n\nThe encoder must be the CLIP that the checkpoint's text encoder comes from, with both "
                  "projections.",
               height=320, title=ABOUT)
    graph.note(0, NOTES, height=320, title=OTHER)
    return graph
