"""Workflow 4: a saved file in stock nodes."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    EXAMPLE_FILE,
    Loaded,
    Start,
    encode,
    load_checkpoint,
    painted_scene,
    prompt_about,
    sample,
)

GROUPS = {0: "1 Model and subject", 1: "2 Your picture", 2: "3 Draw"}


def saved_personalization_with_stock_nodes() -> Graph:
    """A saved file, used for img2img and for inpainting."""
    graph = Graph("04 Your saved subject in any picture", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    mine = Loaded(loaded[0], loaded[1], base.vae)
    latent, masked = painted_scene(graph, 1, base)
    positive = encode(graph, 2, mine.clip, prompt_about(graph, 2, "on the beach", loaded[2]), "Positive")
    start = Start(positive, encode(graph, 2, mine.clip, "", "Negative"), latent)
    sample(graph, 2, mine, start, "Image to image", "pocket_dog_img2img", denoise=0.8, seed=8)
    sample(graph, 2, mine, start._replace(latent=masked), "Inpainting", "pocket_dog_inpaint", seed=8)
    explain(graph, [
        "Loads a personalization (this one comes with the extension; choose yours in *name*) and uses it as any MODEL "
        "and CLIP:",
        "- **Image to image**: your picture, drawn again with your subject\n- **Inpainting**: only the painted place "
        "is drawn",
        "The file knows its identifier: it comes out of the loader and goes into the prompt. The stock *Load LoRA "
        "(Model and CLIP)* reads the file as well; then type the identifier yourself."],
            more=["Choose the checkpoint that the file was trained on; the loader warns if it is another."])
    return graph
