"""The prompts of a family's way through the server, in the form of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ....tools.graphs import Graph, Link, api_form
from .figures import CLASS_IMAGES, PREVIEW_EVERY, STEPS
from .files import encoder_file
from .forms import FORMS

SIZE = 64
NOUN = "dog"
SAMPLING = {"seed": 7, "steps": 2, "cfg": 2.0, "scheduler": "normal"}
"""Of the previews and of every picture, which are therefore one picture."""
PHOTOS = ("personalize_dog_1.png", "personalize_dog_2.png")
Prompt = dict[str, Any]


class Loaded(NamedTuple):
    """MODEL, CLIP and VAE."""

    model: Link
    clip: Link
    vae: Link


def load(graph: Graph, name: str) -> Loaded:
    """The stock loaders with a family's files."""
    form, file = FORMS[name], f"{name}.safetensors"
    if form.has_checkpoint:
        checkpoint = graph.add(0, "CheckpointLoaderSimple", {"ckpt_name": file})
        model, clip, vae = checkpoint[0], checkpoint[1], checkpoint[2]
    else:
        model = graph.add(0, "UNETLoader", {"unet_name": file})[0]
        vae = graph.add(0, "VAELoader", {"vae_name": file})[0]
    if not form.has_encoders_inside:
        numbers = ("",) if len(form.encoders) == 1 else ("1", "2", "3")
        names = {f"clip_name{number}": encoder_file(name, encoder)
                 for number, encoder in zip(numbers, form.encoders, strict=False)}
        of_type = {"type": form.clip_type} if form.clip_type else {}
        clip = graph.add(0, form.loaders[-1], {**names, **of_type})[0]
    return Loaded(model, clip, vae)


def draw(graph: Graph, name: str, loaded: Loaded, text: Link | str, prefix: str) -> None:
    """A picture by stock nodes, kept as PNG and as latents without rounding."""
    positive, negative = (graph.add(4, "CLIPTextEncode", {"clip": loaded.clip, "text": words})[0]
                          for words in (text, ""))
    latent = graph.add(4, FORMS[name].latent, {"width": SIZE, "height": SIZE, "batch_size": 1})[0]
    sampled = graph.add(4, "KSampler", {
        "model": loaded.model, "positive": positive, "negative": negative, "latent_image": latent, "denoise": 1.0,
        "sampler_name": "euler", **SAMPLING})[0]
    picture = graph.add(5, "VAEDecode", {"samples": sampled, "vae": loaded.vae})[0]
    graph.add(5, "SaveImage", {"images": picture, "filename_prefix": prefix})
    graph.add(5, "SaveLatent", {"samples": sampled, "filename_prefix": prefix})


def with_lora(graph: Graph, name: str, loaded: Loaded, strength: float) -> Loaded:
    """The stock LoRA loader; at strength 0 it hands MODEL and CLIP on as they are."""
    node = graph.add(3, "LoraLoader", {"model": loaded.model, "clip": loaded.clip, "lora_name": lora_file(name),
                                       "strength_model": strength, "strength_clip": strength})
    return Loaded(node[0], node[1], loaded.vae)


def lora_file(name: str) -> str:
    """The adapter's name below models/loras."""
    return f"families/{name}.safetensors"


def before(name: str, text: str, nodes: Mapping[str, Any]) -> Prompt:
    """The picture that the family draws as it comes."""
    graph = Graph(f"{name} before")
    draw(graph, name, load(graph, name), text, f"{name}_before")
    return api_form(graph, nodes)


def training(name: str, nodes: Mapping[str, Any]) -> Prompt:
    """Photos to a personalization and a picture: identifier, class images, prior preservation, previews, all."""
    graph = Graph(f"{name} training")
    base = load(graph, name)
    identifier = graph.add(1, "IdentifierPicker", {"clip": base.clip, "class_noun": NOUN, "candidates": 2})[0]
    graph.add(1, "PreviewAny", {"source": identifier}, title="identifier")
    text = graph.add(1, "StringReplace", {"string": f"a {{V}} {NOUN}", "find": "{V}", "replace": identifier})[0]
    photos = {f"images.image{number}": graph.add(1, "LoadImage", {"image": photo})[0]
              for number, photo in enumerate(PHOTOS)}
    subject = graph.add(1, "PersonalizeSubjectPhotos", {**photos, "identifier": identifier, "class_noun": NOUN})[0]
    trainer = graph.add(2, "PersonalizeTrainer", {
        "model": base.model, "clip": base.clip, "vae": base.vae, "subject": subject,
        "objective": prior(graph, name, base), "options": options(graph), "preview": preview(graph, text),
        "steps": STEPS, "learning_rate": 1e-2, "batch": 1, "resolution": SIZE, "run_name": name})
    graph.add(3, "SaveImage", {"images": trainer[4], "filename_prefix": f"{name}_previews"}, title="previews")
    graph.add(3, "PersonalizeSave", {"personalization": trainer[5], "name": f"families/{name}"})
    draw(graph, name, Loaded(trainer[0], trainer[1], base.vae), text, f"{name}_trained")
    return api_form(graph, nodes)


def prior(graph: Graph, name: str, base: Loaded) -> Link:
    """Prior preservation with class images of the family's own."""
    pool = graph.add(1, "PriorSampleGen", {**base._asdict(), "class_noun": NOUN, "count": CLASS_IMAGES, "size": SIZE,
                                           "steps": 2, "cfg": 2.0, "batch": CLASS_IMAGES})
    graph.add(1, "SaveImage", {"images": pool[1], "filename_prefix": f"{name}_class_images"}, title="class images")
    return graph.add(1, "PersonalizePriorPreservation", {"prior": pool[0]})[0]


def options(graph: Graph) -> Link:
    """A small adapter; the state, which holds the losses, is kept at the end."""
    return graph.add(1, "PersonalizeTrainingOptions", {"rank": 4, "alpha": 4.0, "targets": "attention",
                                                       "save_every": STEPS})[0]


def preview(graph: Graph, text: Link) -> Link:
    """The same picture as everywhere, while training."""
    return graph.add(1, "PersonalizeTrainingPreview", {"prompt": text, "sampler": "euler", "every": PREVIEW_EVERY,
                                                       **SAMPLING})[0]


def after(name: str, text: str, nodes: Mapping[str, Any]) -> Prompt:
    """Stock nodes alone: the picture with the saved adapter, and without."""
    graph = Graph(f"{name} after")
    loaded = load(graph, name)
    draw(graph, name, with_lora(graph, name, loaded, 1.0), text, f"{name}_loaded")
    draw(graph, name, with_lora(graph, name, loaded, 0.0), f"a {NOUN}", f"{name}_after")
    return api_form(graph, nodes)
