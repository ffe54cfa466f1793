"""Workflow 12: one prompt, one seed, a row of injection strengths."""

from __future__ import annotations

from ..graphs import Graph, Link
from .notes import explain
from .parts import (
    NOUN,
    OVERFITTED_FILE,
    SAMPLING,
    STAND_IN,
    empty_latent,
    encode,
    load_checkpoint,
    prompt_about,
)

OMEGAS = (0.5, 1.0, 2.0)
GROUPS = {0: "1 Model, subject, prompt", 1: "2 Draw: plain, then stronger, side by side"}
WINDOW = -1.0  # by the latent's size


def dci_omega_sweep() -> Graph:
    """A saved personalization, sampled plainly and with several strengths: one sheet per seed."""
    graph = Graph("12 How strong should DCI be", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": OVERFITTED_FILE, "model": base.model, "clip": base.clip})
    text = prompt_about(graph, 0, "in the snow", loaded[2])
    prompt = graph.add(0, "PersonalizeDCIEncode", {"clip": loaded[1], "prompt": text, "identifier": loaded[2],
                                        "class_noun": NOUN, "auxiliary_noun": STAND_IN, "prompt_l": ""})
    start = {"positive": prompt[0], "negative": encode(graph, 0, loaded[1], "", "Negative"),
             "latent_image": empty_latent(graph, 0), "denoise": 1.0, **SAMPLING}
    sheet = labelled(graph, 1, {**start, "model": loaded[0]}, base.vae, "plain")
    for omega in OMEGAS:
        model = graph.add(1, "PersonalizeDCIModel", {"model": loaded[0], "omega": omega, "window": WINDOW,
                                               "shared_guidance": True}, title=f"DCI Model, strength {omega:g}")
        picture = labelled(graph, 1, {**start, "model": model[0]}, base.vae, f"strength {omega:g}")
        sheet = graph.add(1, "ImageStitch", {"image1": sheet, "image2": picture, "direction": "right",
                                                  "match_image_size": True, "spacing_width": 0,
                                                  "spacing_color": "white"})[0]
    graph.add(1, "SaveImage", {"images": sheet, "filename_prefix": "dci_omega_sweep"}, size=(290, 200),
              title="One sheet per seed: plain, then stronger")
    explain(graph, [
        "*strength* is how much of its surroundings the second picture lends. The prompt is encoded once by **DCI "
        "Encode**; every **DCI Model** samples it with another strength. All samplers have the same seed and noise, so "
        "whatever differs is DCI.",
        "Read each sheet from left to right:",
        "- where the model forgets the prompt for the subject, the prompt comes forward\n- at some point the subject "
        "is lost: take the last picture before that",
        "This subject is overfitted on purpose, as in template 03, so that it takes its photo's kitchen along."],
            more=["*active until* -1 goes by the picture's size: 0.3, as published, at 512."])
    return graph


def labelled(graph: Graph, column: int, inputs: dict, vae: Link, label: str) -> Link:
    """Pictures of one KSampler with a word on them."""
    latents = graph.add(column, "KSampler", inputs, title=f"KSampler: {label}")
    pictures = graph.add(column, "VAEDecode", {"samples": latents[0], "vae": vae})
    return graph.add(column, "TextOverlay", {"images": pictures[0], "text": label, "font_size": 5.0, "color": "#ffffff",
                                             "position": "top", "align": "left", "outline": True})[0]
