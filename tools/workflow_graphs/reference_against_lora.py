"""Workflow 20: one subject by a reference picture, by a LoRA, by both."""

from __future__ import annotations

from ..graphs import Graph
from .kontext import NEEDED, draw, empty, load_kontext, reference, show, train
from .notes import ABOUT, OTHER
from .parts import FILE, NOUN, Loaded, keep, pick_identifier, prompt_about, several_photos


def reference_against_lora() -> Graph:
    """Photos to three pictures of the same seed."""
    graph = Graph("20 Reference against LoRA", groups={0: "1 Model and photos", 1: "2 Train", 2: "3 Draw three ways"})
    base = load_kontext(graph, 0)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 0, identifier)
    trainer = train(graph, 1, base, subject[0], "kontext_dog")
    keep(graph, 1, trainer, f"{FILE}_kontext")
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = prompt_about(graph, 2, "in the desert", identifier)
    latent = empty(graph, 2)
    shown = reference(graph, 2, base.vae, subject.inputs["images.image0"])
    plain = f"the {NOUN} of the picture in the desert"
    for title, loaded, prompt, seen in (("Reference", base, plain, shown), ("LoRA", mine, text, None),
                                        ("Both", mine, text, shown)):
        show(graph, 2, draw(graph, 2, loaded, prompt, latent, seen), title, f"kontext_dog_{title.lower()}")
    graph.note(0, "\n\n".join([
        "The same prompt and noise three times: the edit model is shown one photo; a LoRA has learned four; both. A "
        "reference needs no training and follows the one photo; a LoRA knows the subject from all sides.", NEEDED,
        "The trainer's numbers are automatic, by the recipe of Flux."]), title=ABOUT, before=graph.nodes[0])
    graph.note(1, "\n".join([
        "- **Stable Diffusion 1.5** (512 pixels) and **SDXL** (1024) read no reference latents: compare a LoRA with "
        "another kind of reference there.", "- **Qwen-Image-Edit, Flux.2, OmniGen2**: load them in its place; *Set "
        "Reference Latent* is the same."]), title=OTHER)
    return graph
