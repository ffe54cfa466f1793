"""Workflow 12: one prompt, one seed, a row of injection strengths."""

from __future__ import annotations

from ..graphs import Graph, Link
from .parts import (
    ABOUT,
    EXAMPLE_FILE,
    NOUN,
    OTHER,
    SAMPLING,
    empty_latent,
    encode,
    load_checkpoint,
    name_the_subject,
)

OMEGAS = (0.5, 1.0, 1.5, 2.0)
WINDOW = -1.0  # by the latent's size


def dci_omega_sweep() -> Graph:
    """A saved personalization, sampled plainly and with several omegas: one sheet per seed."""
    graph = Graph("12 DCI omega sweep")
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    text = name_the_subject(graph, 1, f"a {{V}} {NOUN} in the snow", loaded[2])
    prompt = graph.add(1, "PersonalizeDCIEncode", {"clip": loaded[1], "prompt": text, "identifier": loaded[2],
                                        "class_noun": NOUN, "auxiliary_noun": "cat", "prompt_l": ""})
    start = {"positive": prompt[0], "negative": encode(graph, 1, loaded[1], "", "Negative"),
             "latent_image": empty_latent(graph, 1), "denoise": 1.0, **SAMPLING}
    sheet = labelled(graph, 2, {**start, "model": loaded[0]}, base.vae, "plain")
    for column, omega in enumerate(OMEGAS, start=3):
        model = graph.add(column, "PersonalizeDCIModel", {"model": loaded[0], "omega": omega, "window": WINDOW,
                                               "shared_guidance": True}, title=f"DCI Model, omega {omega:g}")
        picture = labelled(graph, column, {**start, "model": model[0]}, base.vae, f"omega {omega:g}")
        sheet = graph.add(column, "ImageStitch", {"image1": sheet, "image2": picture, "direction": "right",
                                                  "match_image_size": True, "spacing_width": 0,
                                                  "spacing_color": "white"})[0]
    graph.add(3 + len(OMEGAS), "SaveImage", {"images": sheet, "filename_prefix": "dci_omega_sweep"}, size=(700, 420),
              title="One sheet per seed: plain, then omega rising")
    graph.note(0, "The paper's figure 9: *omega* is how strongly the auxiliary picture lends its surroundings. The "
                  "prompt is encoded once by **DCI Encode**; every **DCI Model** samples it with another omega. All "
                  "samplers have the same seed and the same noise, so whatever differs is DCI.\n\nRead each sheet "
                  "from left to right. With a model that forgets the prompt for the subject, the prompt comes "
                  "forward, and at some point the subject is lost: take the last picture before that. The pocket "
                  "model obeys its contexts anyway, so its pictures change little.",
               height=300, title=ABOUT)
    graph.note(0, "Load your own personalization and its checkpoint. Empty latent 512 x 512 (SD 1.5) or 1024 x 1024 "
                  "(SDXL), cfg 6 to 7. Window -1 goes by the latent's size: 0.3, as published, at "
                  "512 x 512.", height=140,
               title=OTHER)
    return graph


def labelled(graph: Graph, column: int, inputs: dict, vae: Link, label: str) -> Link:
    """Pictures of one KSampler with a word on them."""
    latents = graph.add(column, "KSampler", inputs, title=f"KSampler: {label}")
    pictures = graph.add(column, "VAEDecode", {"samples": latents[0], "vae": vae})
    return graph.add(column, "TextOverlay", {"images": pictures[0], "text": label, "font_size": 5.0, "color": "#ffffff",
                                             "position": "top", "align": "left", "outline": True})[0]
