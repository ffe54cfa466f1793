"""Workflow 3: the subject of workflow 1, sampled plainly and with DCI."""

from __future__ import annotations

from ..graphs import Graph
from .parts import ABOUT, NOUN, OTHER, OTHER_MODELS, Start, dreambooth, empty_latent, encode, name_the_subject, sample


def dci_against_plain_sampling() -> Graph:
    """The subject of workflow 1, sampled plainly and with DCI from the same seed."""
    graph = Graph("03 DCI against plain sampling")
    mine = dreambooth(graph)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the desert", mine.identifier)
    dci = graph.add(4, "DCIConditioning", {"model": mine.loaded.model, "clip": mine.loaded.clip, "prompt": text,
                                           "identifier": mine.identifier, "class_noun": NOUN, "auxiliary_noun": "cat",
                                           "omega": 1.0, "window": -1.0, "shared_guidance": True})
    positive = encode(graph, 4, mine.loaded.clip, text, "Positive, plain")
    start = Start(positive, encode(graph, 4, mine.loaded.clip, "", "Negative"), empty_latent(graph, 4))
    sample(graph, 5, mine.loaded, start, "Plain", "pocket_dog_plain")
    with_dci = mine.loaded._replace(model=dci[0])
    sample(graph, 5, with_dci, start._replace(positive=dci[1]), "With DCI", "pocket_dog_dci")
    graph.note(0, "Columns 1 to 4 are workflow 1 with the same settings: if you ran it, its result is loaded and "
                  "nothing is trained.\n\nBoth samplers have the same seed. **DCI** denoises a second picture beside "
                  "yours for a while, about a *cat* in the dog's place, and lets your picture borrow its "
                  "surroundings.\n\n*omega*: more follows the prompt, less keeps the subject. *auxiliary_noun*: "
                  "something often seen in the prompt's surroundings, never a synonym of the class noun.", height=330,
               title=ABOUT)
    graph.note(0, OTHER_MODELS + "\nDCI works on models with cross-attention (SD 1.x, SD 2.x, SDXL); on SD 3 and "
                                 "Flux it is experimental.", height=350, title=OTHER)
    return graph
