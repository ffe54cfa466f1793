"""Workflow 18: a language model that sees pictures writes the captions of the photos."""

from __future__ import annotations

from ..graphs import Graph
from .kontext import train
from .notes import explain
from .parts import (
    FILE,
    NOUN,
    PHOTO_SIZE,
    PHOTOS,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    pick_identifier,
    prompt_about,
    sample,
)

READER = {"name": "gemma4_e4b_it_fp8_scaled.safetensors", "directory": "text_encoders",
          "url": "https://huggingface.co/Comfy-Org/gemma-4/resolve/main/text_encoders/"
                 "gemma4_e4b_it_fp8_scaled.safetensors"}
"""As ComfyUI's own template of Generate Text names it."""
QUESTION = (f"Where is the {NOUN} in this picture, what does it do, and what light is it in? Answer with one short "
            f"phrase that could follow 'a {NOUN},'. Do not describe the {NOUN} itself.")


def captions_from_a_text_model() -> Graph:
    """Photos to captions to a personalization and pictures."""
    graph = Graph("18 Captions from a text model", groups={0: "1 Photos", 1: "2 Captions", 2: "3 Train", 3: "4 Draw"})
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photos = [graph.add(0, "LoadImage", {"image": name}, size=PHOTO_SIZE) for name in PHOTOS]
    listed = graph.add(1, "CreateList", {f"inputs.input{number}": photo[0] for number, photo in enumerate(photos)},
                       title="A list: one run for each photo", size=(290, 106))
    reader = graph.add(0, "CLIPLoader", {"clip_name": READER["name"], "type": "stable_diffusion", "device": "default"},
                       files=(READER,), title="The model that reads pictures")
    asked = {"clip": reader[0], "image": listed[0], "prompt": QUESTION, "max_length": 60, "sampling_mode": "off"}
    written = graph.add(1, "TextGenerate", asked, size=(290, 270))
    joined = {"string_a": "a {V} {noun}, ", "string_b": written[0], "delimiter": ""}
    captions = graph.add(1, "StringConcatenate", joined, title="The identifier in front", size=(290, 206))
    graph.add(1, "PreviewAny", {"source": captions[0]}, title="Captions", size=(290, 140))
    subject = graph.add(1, "PersonalizeSubjectPhotos", {"images.image0": listed[0], "identifier": identifier,
                                                        "class_noun": NOUN, "captions": captions[0]}, size=(290, 290))
    trainer = train(graph, 2, base, subject[0], "pocket_dog_captions")
    mine = Loaded(trainer[0], trainer[1], base.vae)
    keep(graph, 2, trainer, f"{FILE}_captions")
    positive = encode(graph, 3, mine.clip, prompt_about(graph, 3, "in the desert", identifier), "Positive")
    start = Start(positive, encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3))
    sample(graph, 3, mine, start, "Your subject", "pocket_dog_captions")
    explain(graph, [
        "A language model that sees pictures describes what is **around** the subject in each photo, so that "
        "surroundings are learned as words and not as a part of it.",
        f"**Files you need**:\n\n- text_encoders: `{READER['name']}`, or another that *Generate Text* "
        "takes (Gemma 3 and 4, Qwen3-VL)",
        "*Create List* and not a batch: *Generate Text* then runs once for each photo, and its texts stay in the "
        "photos' order. `{V}` and `{noun}` are filled in by *Subject Photos*; a caption without them is refused.",
        "Any other node that hands on a list of texts does as well."])
    return graph
