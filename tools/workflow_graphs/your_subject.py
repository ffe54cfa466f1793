"""Workflow 0: three edits to pictures of one's own subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.training.recipe_files import RecipeFile, published
from ..blueprints import blueprint
from ..graphs import Graph, Node
from .parts import CHECKPOINT, NOUN, Loaded

FOLDER = "personalize_dog"
"""Example photos, a folder inside the input folder."""
BLUEPRINT = "Your subject from photos"
PROMPT = "a {V} {noun} in the snow"
FAMILIES = ("the pocket model", "Stable Diffusion 1.5", "SDXL")
GROUPS = {0: "1 Model", 1: "2 Photos and word", 2: "3 Prompt", 3: "4 Draw"}


def your_subject() -> Graph:
    """A checkpoint, photos and a word to pictures."""
    graph = Graph("00 Your subject in three edits", groups=GROUPS)
    node = graph.add(0, "CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT}, title="Load Checkpoint: your model")
    from_photos(graph, Loaded(node[0], node[1], node[2]))
    graph.note(0, "\n".join([
        "1. *Load Checkpoint*: your model.", "2. **Choose photos**: 3 to 5 of your subject, different backgrounds.",
        f"3. *what_is_it*: one word, such as {NOUN}.", "", "Press **Run**. It trains once; the same graph loads the "
        "result. Ask people before you train on photos of them.", "", "Chosen for you, by model:", "",
        *recipe_lines(FAMILIES), "", "The report on the node says every number, and why."]), height=420,
        title="Three edits")
    return graph


def as_blueprint(object_info: Mapping[str, Any]) -> dict[str, Any]:
    """The part between the loaders and the saved picture as one node."""
    graph = your_subject()
    nodes = {node.class_type: node for node in graph.nodes}
    learned, prompt = nodes["PersonalizeFromPhotos"], nodes["PersonalizePromptWithSubject"]
    widgets = [(learned, name) for name in ("photos", "what_is_it", "kind", "effort", "pictures")]
    return blueprint(graph, [nodes["CheckpointLoaderSimple"], nodes["SaveImage"]], [
        *widgets, (prompt, "prompt"), (nodes["KSampler"], "seed")], BLUEPRINT,
        "Photos and a word to pictures of your subject: MODEL, CLIP and VAE in, IMAGE out.", object_info)


def from_photos(graph: Graph, base: Loaded) -> tuple[Node, Node, Node]:
    """From a loaded model to pictures, in columns 1 to 3: the nodes that learn, that say what is drawn, that save."""
    learned = graph.add(1, "PersonalizeFromPhotos", {
        "model": base.model, "clip": base.clip, "vae": base.vae, "photos": FOLDER, "what_is_it": NOUN, "kind": "pet",
        "pictures": 4}, size=(340, 640))
    prompt = graph.add(2, "PersonalizePromptWithSubject", {"clip": learned[1], "personalization": learned[2],
                                                           "prompt": PROMPT}, size=(290, 200))
    negative = graph.add(2, "CLIPTextEncode", {"clip": learned[1], "text": ""}, size=(290, 110), title="Negative")
    latents = graph.add(3, "KSampler", {
        "model": learned[0], "positive": prompt[0], "negative": negative[0], "latent_image": learned[3], "seed": 7,
        "steps": learned[4], "cfg": learned[5], "sampler_name": learned[6], "scheduler": learned[7], "denoise": 1.0})
    pictures = graph.add(3, "VAEDecode", {"samples": latents[0], "vae": base.vae})
    saved = graph.add(3, "SaveImage", {"images": pictures[0], "filename_prefix": "personalize"}, size=(290, 330),
                      title="Your subject")
    return learned, prompt, saved


def recipe_lines(names: Sequence[str]) -> list[str]:
    """What the recipes of some families say, a line of a list each."""
    known = {file.name: file for file in published()}
    return [_line(known[name]) for name in names]


def _line(file: RecipeFile) -> str:
    of = file.values
    return (f"- **{file.name}**: {of['resolution']} pixels, rate {of['learning_rate']:g}, {of['steps_per_photo']} "
            f"steps per photo; pictures {of['size']} pixels, {of['sampler']}, {of['sampling_steps']} steps, "
            f"cfg {of['cfg']:g}")
