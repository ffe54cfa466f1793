"""What several workflows are made of: loaders, training, sampling, notes. All of them run on the pocket checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...pocket.config import SIZE
from ..graphs import Graph, Link, Node

NOUN = "dog"
CHECKPOINT = "pocket.safetensors"
FILE = "personalize/pocket_dog"
EXAMPLE_FILE = "pocket_dog_example.safetensors"
PHOTOS = [f"personalize_dog_{number}.png" for number in (1, 2, 3, 4)]
MASKED_PHOTO, SCENE = "personalize_dog_masked.png", "personalize_scene_masked.png"
PICTURES = 4
# Any sampler suits the pocket model; an ancestral one lets it correct itself on the way.
SAMPLING = {"seed": 7, "steps": 25, "cfg": 3.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
TRAINING = {"steps": 300, "learning_rate": 5e-4, "batch": 2, "resolution": SIZE, "seed": 0}
OPTIONS = {"rank": 16, "alpha": 16.0, "targets": "attention_and_feed_forward", "text_encoder_rate": 5e-4,
           "save_every": 100}
CLASS_IMAGES = {"count": 24, "size": SIZE, "sampler": "euler_ancestral", "scheduler": "normal", "steps": 20, "cfg": 3.0,
                "seed": 0, "batch": 8}

OTHER_MODELS = f"""| | pocket | SD 1.5 | SDXL |
|---|---|---|---|
| checkpoint | pocket | yours | yours |
| resolution, size, empty latent | {SIZE} | 512 | 1024 |
| learning_rate | 5e-4 | 1e-4 | 1e-4 |
| text_encoder_rate | 5e-4 | 5e-5 | 0 |
| targets | attention_and_feed_forward | attention | attention |
| steps | 300 | 400 | 500 |
| cfg of pictures | 3 | 7 | 6 |
"""
ABOUT, OTHER = "What this does", "Stable Diffusion 1.5 and SDXL"


class Loaded(NamedTuple):
    """MODEL, CLIP and VAE, as they come from a loader or a trainer."""

    model: Link
    clip: Link
    vae: Link


def load_checkpoint(graph: Graph) -> Loaded:
    """The pocket checkpoint."""
    node = graph.add(0, "CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT})
    return Loaded(node[0], node[1], node[2])


def pick_identifier(graph: Graph, clip: Link) -> Link:
    """A rare word for the subject."""
    return graph.add(0, "IdentifierPicker", {"clip": clip, "class_noun": NOUN, "seed": 0})[0]


def name_the_subject(graph: Graph, column: int, text: str, identifier: Link) -> Link:
    """A prompt in which {V} becomes the identifier."""
    inputs = {"string": text, "find": "{V}", "replace": identifier}
    return graph.add(column, "StringReplace", inputs, title="Prompt: {V} is the identifier")[0]


def prior_preservation(graph: Graph, column: int, base: Loaded) -> Link:
    """Class images, and the objective that uses them."""
    inputs = {"model": base.model, "clip": base.clip, "vae": base.vae, "class_noun": NOUN, **CLASS_IMAGES}
    prior = graph.add(column, "PriorSampleGen", inputs, title="Class images: what any dog looks like")
    graph.add(column, "PreviewImage", {"images": prior[1]}, size=(315, 300), title="Class images")
    return graph.add(column, "PersonalizePriorPreservation", {"prior": prior[0], "weight": 1.0})[0]


def train(graph: Graph, column: int, base: Loaded, subject: Link, objective: Link | None, run_name: str,
          options: Mapping[str, object] | None = None, **changes: object) -> Node:
    """The trainer with its options, which may differ from the usual ones."""
    chosen = graph.add(column, "PersonalizeTrainingOptions", {**OPTIONS, **(options or {})})
    inputs = {"model": base.model, "clip": base.clip, "vae": base.vae, "subject": subject, "options": chosen[0],
              "run_name": run_name, **TRAINING, **changes, **({"objective": objective} if objective else {})}
    return graph.add(column, "PersonalizeTrainer", inputs, size=(315, 620))


def several_photos(graph: Graph, column: int, identifier: Link) -> Node:
    """Four photos of the subject."""
    photos = [graph.add(column, "LoadImage", {"image": name}, size=(280, 320)) for name in PHOTOS]
    images = {f"images.image{number}": photo[0] for number, photo in enumerate(photos)}
    return graph.add(0, "PersonalizeSubjectPhotos", {**images, "identifier": identifier, "class_noun": NOUN})


class Personalized(NamedTuple):
    """What training gives: MODEL / CLIP / VAE, the identifier, the trainer's node."""

    loaded: Loaded
    identifier: Link
    trainer: Node


def dreambooth(graph: Graph) -> Personalized:
    """Four photos, class images and a training run, in columns 0 to 3."""
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 1, identifier)
    objective = prior_preservation(graph, 2, base)
    trainer = train(graph, 3, base, subject[0], objective, "pocket_dog")
    return Personalized(Loaded(trainer[0], trainer[1], base.vae), identifier, trainer)


def encode(graph: Graph, column: int, clip: Link, text: Link | str, title: str) -> Link:
    """A prompt to CONDITIONING."""
    return graph.add(column, "CLIPTextEncode", {"clip": clip, "text": text}, size=(315, 110), title=title)[0]


def empty_latent(graph: Graph, column: int) -> Link:
    """Where pictures start."""
    return graph.add(column, "EmptyLatentImage", {"width": SIZE, "height": SIZE, "batch_size": PICTURES})[0]


class Start(NamedTuple):
    """What a sampler takes beside the model."""

    positive: Link
    negative: Link
    latent: Link


def sample(graph: Graph, column: int, base: Loaded, start: Start, title: str, prefix: str, **changes: object) -> None:
    """KSampler and VAE Decode in one column, Save Image in the next."""
    inputs = {"model": base.model, "positive": start.positive, "negative": start.negative,
              "latent_image": start.latent, "denoise": 1.0, **SAMPLING, **changes}
    latents = graph.add(column, "KSampler", inputs, title=f"KSampler: {title}")
    pictures = graph.add(column, "VAEDecode", {"samples": latents[0], "vae": base.vae})
    graph.add(column + 1, "SaveImage", {"images": pictures[0], "filename_prefix": prefix}, size=(400, 420), title=title)


def keep(graph: Graph, column: int, trainer: Node, name: str) -> None:
    """Save the personalization, and look at its loss."""
    graph.add(column, "PersonalizeSave", {"personalization": trainer[5], "name": name})
    graph.add(column, "LossGraphNode", {"loss": trainer[3], "filename_prefix": "pocket_dog_loss"}, size=(315, 300))


def painted_scene(graph: Graph, column: int, base: Loaded) -> tuple[Link, Link]:
    """A picture at the model's own size as latents, without and with its painted place as a noise mask."""
    photo = graph.add(column, "LoadImage", {"image": SCENE}, size=(315, 360), title="Any picture, a place painted")
    sized = graph.add(column, "ImageScale", {"image": photo[0], "upscale_method": "area", "width": SIZE, "height": SIZE,
                                             "crop": "center"}, title="The size the model was trained for")
    latent = graph.add(column, "VAEEncode", {"pixels": sized[0], "vae": base.vae})
    masked = graph.add(column, "SetLatentNoiseMask", {"samples": latent[0], "mask": photo[1]})
    return latent[0], masked[0]
