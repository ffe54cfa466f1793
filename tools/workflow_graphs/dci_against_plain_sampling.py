"""Workflow 3: a saved subject, sampled plainly and with DCI."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    NOUN,
    OVERFITTED_FILE,
    STAND_IN,
    Loaded,
    Start,
    empty_latent,
    encode,
    load_checkpoint,
    prompt_about,
    sample,
)

GROUPS = {0: "1 Model and subject", 1: "2 Prompt, DCI", 2: "3 Draw: plain, and with DCI"}


def dci_against_plain_sampling() -> Graph:
    """A saved subject, sampled plainly and with DCI from the same seed."""
    graph = Graph("03 Prompt obeyed, subject kept (DCI)", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": OVERFITTED_FILE, "model": base.model, "clip": base.clip})
    mine = Loaded(loaded[0], loaded[1], base.vae)
    text = prompt_about(graph, 1, "in the snow", loaded[2])
    dci = graph.add(1, "DCIConditioning", {"model": mine.model, "clip": mine.clip, "prompt": text,
                                           "identifier": loaded[2], "class_noun": NOUN, "auxiliary_noun": STAND_IN,
                                           "omega": 2.0, "window": -1.0, "shared_guidance": True})
    start = Start(encode(graph, 1, mine.clip, text, "Positive, plain"), encode(graph, 1, mine.clip, "", "Negative"),
                  empty_latent(graph, 1))
    sample(graph, 2, mine, start, "Plain", "pocket_dog_plain")
    sample(graph, 2, mine._replace(model=dci[0]), start._replace(positive=dci[1]), "With DCI", "pocket_dog_dci")
    explain(graph, [
        "Draws a saved subject twice from the same seed, plainly and with **DCI**. It comes with the extension and is "
        "overfitted on purpose: one photo, in a kitchen, learned almost by heart. Plain sampling takes the "
        "kitchen's tiles along wherever the prompt goes; a subject of several photos (template 01) obeys by itself.",
        "DCI draws a second picture beside yours for a while, about a *cat* in the dog's place, and lets yours borrow "
        "its surroundings.",
        "- *strength*: more follows the prompt, less keeps the subject\n- *stand-in object*: something often seen in "
        "the prompt's surroundings, never a synonym of the class noun"],
            more=["Choose the checkpoint that the file was trained on.",
                  "*strength* is 2 here, the largest: begin with 1 on another model.",
                  "DCI works on models with cross-attention (SD 1.x, SD 2.x, SDXL); on SD 3 and Flux it is "
                  "experimental."])
    return graph
