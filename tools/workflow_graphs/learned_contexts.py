"""Workflow 5: ICO, image-specific contexts."""

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
    prior_preservation,
    sample,
    several_photos,
    train,
)

CONTEXTS = {"prefix": 2, "suffix": 1, "identifier_vectors": 4, "start": "words", "rate_factor": 10.0,
            "identifier_rate_factor": 1.0, "prefix_words": "a", "suffix_words": "on"}
NOTES = f"""| | pocket | SD 1.5 | SDXL |
|---|---|---|---|
| checkpoint | pocket | yours | yours |
| resolution, size, empty latent | {SIZE} | 512 | 1024 |
| learning_rate | 5e-4 | 6e-5 | 6e-5 |
| targets | attention_and_feed_forward | cross_attention_kv | cross_attention_kv |
| text_encoder_rate | 5e-4 | 0 | 0 |
| prefix, suffix, identifier_vectors | 2, 1, 4 | 2, 1, 3 | 2, 1, 3 |
| rate_factor, identifier_rate_factor | 10, 1 | 10, 1 | 10, 1 |
| prefix_words, suffix_words | a, on | a photo of a, . | a photo of a, . |
| detach_begin_token | off | on | on |
| Identifier Picker: tokens | 1 | 3 | 3 |
| steps at batch | 300 at 2 | 900 at 6 | 900 at 4 |
| cfg of pictures | 3 | 6 | 6 |
"""


def learned_contexts() -> Graph:
    """Photos, each with contexts of its own, to an adapter, V's vectors and pictures."""
    graph = Graph("05 Learned contexts (ICO)")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 1, identifier)
    prior = prior_preservation(graph, 2, base)
    contexts = graph.add(2, "PersonalizeLearnedContexts", {**CONTEXTS, "objective": prior})
    trainer = train(graph, 3, base, subject[0], contexts[0], "pocket_dog_ico")
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the desert", trainer[7])
    positive = encode(graph, 4, mine.clip, text, "Positive")
    keep(graph, 4, trainer, f"{FILE}_ico")
    start = Start(positive, encode(graph, 5, mine.clip, "", "Negative"), empty_latent(graph, 5))
    sample(graph, 5, mine, start, "Your subject", "pocket_dog_ico")
    graph.note(0, "No caption says what is in *this* photo besides your subject: the grass, the light, the pose. "
                  "Learned Contexts gives every photo a few vectors of its own that can take that up, so that less of "
                  "it sticks to the subject. They are not used afterwards (a file beside the adapter keeps them for "
                  "inspection); only V's vectors and the adapter are.\n\nContexts start from words that the text "
                  "encoder knows: the pocket model knows *a* and *on*, but not *photo*, *of* or a full stop."
                  "\n\nWrite the subject as the trainer's *identifier* output says (`embedding:...`).", height=300,
               title=ABOUT)
    graph.note(0, NOTES, height=320, title=OTHER)
    return graph
