"""Workflow 1: photos and class images to a LoRA and pictures."""

from __future__ import annotations

from ..graphs import Graph
from .parts import (
    ABOUT,
    FILE,
    NOUN,
    OTHER,
    OTHER_MODELS,
    Start,
    dreambooth,
    empty_latent,
    encode,
    keep,
    name_the_subject,
    sample,
)


def dreambooth_with_prior_preservation() -> Graph:
    """Photos and class images to a personalization and pictures."""
    graph = Graph("01 DreamBooth LoRA with prior preservation")
    mine = dreambooth(graph)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the desert", mine.identifier)
    positive = encode(graph, 4, mine.loaded.clip, text, "Positive")
    keep(graph, 4, mine.trainer, FILE)
    negative = encode(graph, 5, mine.loaded.clip, "", "Negative")
    start = Start(positive, negative, empty_latent(graph, 5))
    sample(graph, 5, mine.loaded, start, "Your subject", "pocket_dog_dreambooth")
    graph.note(0, "Press **Run**: four photos of one dog become a LoRA, and then pictures of that dog elsewhere. It is "
                  "trained once; running again loads the result from `output/personalize`.\n\n**Your own subject**: "
                  "load 3 to 5 photos with different backgrounds, and say what it is in *class_noun* (three nodes) and "
                  "in the prompt.\n\nThe class images keep 'a dog' from becoming *your* dog. 100 to 200 of them are "
                  "usual; they are kept on disk.", height=330, title=ABOUT)
    graph.note(0, OTHER_MODELS, height=300, title=OTHER)
    return graph
