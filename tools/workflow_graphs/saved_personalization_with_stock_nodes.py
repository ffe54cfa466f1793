"""Workflow 4: a saved file in stock nodes."""

from __future__ import annotations

from ..graphs import Graph
from .parts import (
    ABOUT,
    EXAMPLE_FILE,
    NOUN,
    OTHER,
    Loaded,
    Start,
    encode,
    load_checkpoint,
    name_the_subject,
    painted_scene,
    sample,
)


def saved_personalization_with_stock_nodes() -> Graph:
    """A saved file, used for img2img and for inpainting."""
    graph = Graph("04 Saved personalization with img2img and inpainting")
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    mine = Loaded(loaded[0], loaded[1], base.vae)
    latent, masked = painted_scene(graph, 1, base)
    text = name_the_subject(graph, 2, f"a {{V}} {NOUN} on the beach", loaded[2])
    positive = encode(graph, 2, mine.clip, text, "Positive")
    start = Start(positive, encode(graph, 2, mine.clip, "", "Negative"), latent)
    sample(graph, 3, mine, start, "Image to image", "pocket_dog_img2img", denoise=0.7)
    sample(graph, 3, mine, start._replace(latent=masked), "Inpainting", "pocket_dog_inpaint")
    graph.note(0, "Loads a personalization (this one comes with the extension; choose yours in *name*) and uses it as "
                  "any MODEL and CLIP: **img2img** above, **inpainting** of the painted place below.\n\nThe file "
                  "knows its identifier: it comes out of the loader and goes into the prompt. The stock *Load LoRA "
                  "(Model and CLIP)* reads the file as well; then type the identifier yourself.", height=240,
               title=ABOUT)
    graph.note(0, "Choose the checkpoint that the file was trained on; the loader warns if it is another. Load a "
                  "picture of 512 x 512 (SD 1.5) or 1024 x 1024 pixels (SDXL).", height=140, title=OTHER)
    return graph
