"""Workflow 15: where DCI listens to which prompt, as sheets and as a mask."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph, Link
from .notes import explain
from .parts import (
    EXAMPLE_FILE,
    NOUN,
    SAMPLING,
    Loaded,
    empty_latent,
    encode,
    load_checkpoint,
    prompt_about,
)

GROUPS = {0: "1 Model and subject", 1: "2 Stand-in object", 2: "3 DCI", 3: "4 Draw with masks", 4: "5 Look"}


def dci_masks() -> Graph:
    """A saved personalization, an auxiliary noun by the model's own pictures, and DCI's masks."""
    graph = Graph("15 Where DCI listens (masks)", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    text = prompt_about(graph, 0, "in the snow", loaded[2])
    noun = pick_noun(graph, base, text, loaded[2])
    dci = graph.add(2, "DCIConditioning", {
        "model": loaded[0], "clip": loaded[1], "prompt": text, "identifier": loaded[2], "class_noun": NOUN,
        "auxiliary_noun": noun, "omega": 1.0, "window": -1.0, "shared_guidance": True})
    start = {"model": dci[0], "positive": dci[1], "negative": encode(graph, 2, loaded[1], "", "Negative"),
             "latent_image": empty_latent(graph, 2), **SAMPLING}
    scales = graph.add(3, "PersonalizeDCIMasks", {**start, "sheet": "scales", "shown": "concept map"},
                       title="By scale")
    steps = graph.add(3, "PersonalizeDCIMasks", {**start, "sheet": "steps", "shown": "mask"}, title="By step")
    pictures = graph.add(3, "VAEDecode", {"samples": scales[2], "vae": base.vae})
    drawn = graph.add(3, "MaskToImage", {"mask": scales[1]}, title="Mean over scales, at picture size")
    for images, title in ((pictures[0], "Pictures"), (drawn[0], "Masks of the subject"), (scales[0], "Masks by scale"),
                          (steps[0], "Masks by step")):
        graph.add(4, "SaveImage", {"images": images, "filename_prefix": f"dci_{title.lower().replace(' ', '_')}"},
                  size=(290, 260), title=title)
    explain(graph, [
        "**DCI Masks** is a KSampler that also shows where DCI listens:",
        "- *concept map*: the evidence for your subject\n- *auxiliary map*: that for the rest of the prompt\n- *mask "
        "M^c*: how much of each pixel comes from your picture (bright) and from the second one (dark)\n- *mask M^a*: "
        "the rest",
        "Its MASK is for any node that takes one. Both samplers here have the same seed, so they draw the same "
        "pictures.",
        "**Auxiliary Noun Picker** draws each candidate in your prompt's surroundings with the model as it was before "
        "training, and takes the one that is at home there. Kept on disk."],
            more=["Size and cfg in the picker, too. Large pictures have more scales."])
    return graph


def pick_noun(graph: Graph, base: Loaded, text: Link, identifier: Link) -> Link:
    """The auxiliary noun by the base model's own pictures, shown with its report."""
    picker = graph.add(1, "PersonalizeAuxiliaryNounPicker", {
        "clip": base.clip, "model": base.model, "vae": base.vae, "prompt": text, "identifier": identifier,
        "class_noun": NOUN, "mode": "prior", "candidates": "cat, fish, robot, teapot", "pictures": 2, "seed": 0,
        "steps": 20, "cfg": 3.0, "size": SIZE})
    graph.add(1, "PreviewImage", {"images": picker[2]}, size=(290, 260), title="Candidates, best first")
    return picker[0]
