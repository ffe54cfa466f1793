"""Workflow 16: a saved personalization against the model that it was trained on, in figures."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph, Link, Node
from .notes import explain
from .parts import EXAMPLE_FILE, SAMPLING, Loaded, load_checkpoint, several_photos

PROMPTS = """# places
a {V} {noun} in the snow
a {V} {noun} on the beach
a {V} {noun} in the jungle
a {V} {noun} at night
a {V} {noun} on a red carpet
a {V} {noun} in the desert
# wearing a hat
a {V} {noun} wearing a hat in the city
a {V} {noun} wearing a hat in a kitchen
a {V} {noun} wearing a hat on a wooden floor
a {V} {noun} wearing a hat in the snow
a {V} {noun} wearing a hat under water
# colours
a red {V} {noun}
a blue {V} {noun}
a green {V} {noun}
a purple {V} {noun}
a yellow {V} {noun}"""
"""DreamBooth's kinds in words that the pocket model knows; five of each, for intervals."""


GROUPS = {0: "1 Model, subject, judge", 1: "2 Photos", 2: "3 Measure", 3: "4 Look"}


def evaluate_personalization() -> Graph:
    """The checkpoint, then the personalization on it, at the same prompts and noise; the second compares."""
    graph = Graph("16 How good is it, in numbers", groups=GROUPS)
    base = load_checkpoint(graph)
    loaded = graph.add(0, "PersonalizeLoad", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    mine = Loaded(loaded[0], loaded[1], base.vae)
    subject = several_photos(graph, 1, loaded[2])
    encoder = graph.add(0, "PersonalizeImageTextEncoder", {"path": "pocket"}, title="A CLIP that judges")
    before = evaluate(graph, base, subject, encoder, "before")
    after = evaluate(graph, mine, subject, encoder, "personalized", compare=before[1], reference_model=base.model,
                     reference_clip=base.clip)
    graph.add(3, "PreviewAny", {"source": after[0]}, size=(420, 260), title="Figures, with the difference")
    for images, title in ((after[2], "Chart"), (after[3], "Sheet, personalized"), (before[3], "Sheet, before")):
        prefix = f"evaluation_{title.lower().replace(', ', '_')}"
        graph.add(3, "SaveImage", {"images": images, "filename_prefix": prefix}, size=(420, 260), title=title)
    explain(graph, [
        "Draws the subject in sixteen prompts with the checkpoint and with the personalization, at the same noise, and "
        "measures both:",
        "- **CLIP-I**: like the photos?\n- **CLIP-T**: like the prompt?\n- **diversity**\n- **drift**: does 'a dog' "
        "now look like the subject?",
        "The second node has the first one's *json* in *compare*, so its table says what training changed, prompt by "
        "prompt. Read the two sheets beside the figures: a number is a mean, a sheet is what you get."],
            more=["Choose photos that were not trained on, and the folder of a real CLIP in Image-Text Encoder (the "
                  "word pocket means the pocket model's).",
                  "*Subject Prompts* connected to *prompts* gives DreamBooth's 25. *dino_path* adds DINO, *lpips_path* "
                  "LPIPS; KID needs torchmetrics."])
    return graph


def evaluate(graph: Graph, model: Loaded, subject: Node, encoder: Node, label: str, **optional: Link) -> Node:
    """Evaluate Personalization with the pocket model's settings."""
    sampling = {"steps": 12, "cfg": SAMPLING["cfg"], "sampler": "dpmpp_2m", "seed": 7}
    return graph.add(2, "PersonalizeEvaluate", {
        "model": model.model, "clip": model.clip, "vae": model.vae, "subject": subject[0], "image_text": encoder[0],
        "prompts": PROMPTS, "label": label, "seeds": 1, "size": SIZE, "class_pictures": 5, **sampling, **optional},
        size=(420, 600), title=f"Evaluate: {label}")
