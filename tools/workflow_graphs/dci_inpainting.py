"""Workflow 14: a saved subject painted into a place of a picture, with DCI and without."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    EXAMPLE_FILE,
    NOUN,
    STAND_IN,
    Loaded,
    Start,
    encode,
    load_checkpoint,
    painted_scene,
    prompt_about,
    sample,
)

GROUPS = {0: "1 Model and subject", 1: "2 Your picture", 2: "3 Prompt, DCI", 3: "4 Draw: plain, and with DCI"}


def dci_inpainting() -> Graph:
    """Inpainting of a painted place, plainly and with DCI from the same seed."""
    graph = Graph("14 Your subject painted into a scene (DCI)", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    mine = Loaded(loaded[0], loaded[1], base.vae)
    latent, masked = painted_scene(graph, 1, base)
    batch = graph.add(1, "RepeatLatentBatch", {"samples": masked, "amount": 4})
    text = prompt_about(graph, 2, "on the beach", loaded[2])
    dci = graph.add(2, "DCIConditioning", {"model": mine.model, "clip": mine.clip, "prompt": text,
                                           "identifier": loaded[2], "class_noun": NOUN, "auxiliary_noun": STAND_IN,
                                           "omega": 1.0, "window": -1.0, "shared_guidance": True})
    start = Start(encode(graph, 2, mine.clip, text, "Positive, plain"),
                  encode(graph, 2, mine.clip, "", "Negative"), batch[0])
    sample(graph, 3, mine, start, "Inpainting, plain", "pocket_dog_inpaint_plain", seed=5)
    sample(graph, 3, mine._replace(model=dci[0]), start._replace(positive=dci[1]), "Inpainting with DCI",
           "pocket_dog_inpaint_dci", seed=5)
    explain(graph, [
        "The painted place of the picture is drawn anew, with your subject in it; the rest stays as it is.",
        "**DCI** draws a second picture with the same kept surroundings, about a *cat* in the dog's place, and yours "
        "borrows how something ordinary fits in there. Same seed, same noise, with DCI and without.",
        "Keep *denoise* at 1: at 512 pixels a sampler that starts below about 0.7 starts after DCI has ended, and "
        "samples plainly."],
            more=["*active until* -1 goes by the picture's size: 0.3, as published, at 512."])
    return graph
