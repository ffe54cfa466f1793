"""What several workflows are made of: loaders, training, sampling. All of them run on the pocket checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...pocket.config import SIZE
from ..graphs import Graph, Link, Node

NOUN = "dog"
CHECKPOINT = "pocket.safetensors"
FILE = "personalize/pocket_dog"
EXAMPLE_FILE = "pocket_dog_example.safetensors"
OVERFITTED, OVERFITTED_FILE = f"{FILE}_overfitted", "pocket_dog_overfitted_example.safetensors"
STAND_IN = "cat"
PHOTOS = [f"personalize_dog_{number}.png" for number in (1, 2, 3, 4)]
MASKED_PHOTO, SCENE = "personalize_dog_masked.png", "personalize_scene_masked.png"
PICTURES = 4
PHOTO_SIZE, PICTURE_SIZE = (240, 314), (290, 260)
# Any sampler suits the pocket model; an ancestral one lets it correct itself on the way.
SAMPLING = {"seed": 7, "steps": 25, "cfg": 3.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
TRAINING = {"steps": 200, "learning_rate": 5e-4, "batch": 4, "resolution": SIZE, "seed": 0}
OPTIONS = {"rank": 16, "alpha": 16.0, "targets": "attention_and_feed_forward", "text_encoder_rate": 5e-4,
           "save_every": 100}
CLASS_IMAGES = {"count": 24, "size": SIZE, "sampler": "euler_ancestral", "scheduler": "normal", "steps": 20, "cfg": 3.0,
                "seed": 0, "batch": 8}

THREE_STEPS = {0: "1 Photos", 1: "2 Train", 2: "3 Draw"}
FOUR_STEPS = {0: "1 Photos", 1: "2 Class images", 2: "3 Train", 3: "4 Draw"}


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


def prompt_about(graph: Graph, column: int, place: str, identifier: Link, *, before: Node | None = None) -> Link:
    """A prompt about the subject in a place, in which {V} becomes the identifier."""
    inputs = {"string": f"a {{V}} {NOUN} {place}", "find": "{V}", "replace": identifier}
    return graph.add(column, "StringReplace", inputs, title="Prompt: {V} is the identifier", before=before)[0]


def prior_preservation(graph: Graph, column: int, base: Loaded) -> Link:
    """Class images, and the objective that uses them."""
    inputs = {"model": base.model, "clip": base.clip, "vae": base.vae, "class_noun": NOUN, **CLASS_IMAGES}
    prior = graph.add(column, "PriorSampleGen", inputs, title="Class images: what any dog looks like")
    graph.add(column, "PreviewImage", {"images": prior[1]}, size=(290, 260), title="Class images")
    return graph.add(column, "PersonalizePriorPreservation", {"prior": prior[0], "weight": 1.0})[0]


def train(graph: Graph, column: int, base: Loaded, subject: Link, objective: Link | None, run_name: str,
          options: Mapping[str, object] | None = None, **changes: object) -> Node:
    """The trainer with its options, which may differ from the usual ones."""
    chosen = graph.add(column, "PersonalizeTrainingOptions", {**OPTIONS, **(options or {})})
    inputs = {"model": base.model, "clip": base.clip, "vae": base.vae, "subject": subject, "options": chosen[0],
              "run_name": run_name, **TRAINING, **changes, **({"objective": objective} if objective else {})}
    return graph.add(column, "PersonalizeTrainer", inputs, size=(290, 580))


def several_photos(graph: Graph, column: int, identifier: Link) -> Node:
    """Four photos of the subject."""
    photos = [graph.add(column, "LoadImage", {"image": name}, size=PHOTO_SIZE) for name in PHOTOS]
    images = {f"images.image{number}": photo[0] for number, photo in enumerate(photos)}
    return graph.add(column, "PersonalizeSubjectPhotos", {**images, "identifier": identifier, "class_noun": NOUN})


def masked_photo(graph: Graph, identifier: Link) -> Node:
    """One photo in which the subject is painted."""
    photo = graph.add(0, "LoadImage", {"image": MASKED_PHOTO}, size=(290, 360), title="One photo, the subject painted")
    return graph.add(0, "PersonalizeSubjectPhotos", {"images.image0": photo[0], "masks.mask0": photo[1],
                                                     "identifier": identifier, "class_noun": NOUN})


def encode(graph: Graph, column: int, clip: Link, text: Link | str, title: str) -> Link:
    """A prompt to CONDITIONING."""
    return graph.add(column, "CLIPTextEncode", {"clip": clip, "text": text}, size=(290, 96), title=title)[0]


def empty_latent(graph: Graph, column: int) -> Link:
    """Where pictures start."""
    return graph.add(column, "EmptyLatentImage", {"width": SIZE, "height": SIZE, "batch_size": PICTURES})[0]


class Start(NamedTuple):
    """What a sampler takes beside the model."""

    positive: Link
    negative: Link
    latent: Link


def sample(graph: Graph, column: int, base: Loaded, start: Start, title: str, prefix: str, **changes: object) -> Link:
    """KSampler, VAE Decode and Save Image; the pictures."""
    inputs = {"model": base.model, "positive": start.positive, "negative": start.negative,
              "latent_image": start.latent, "denoise": 1.0, **SAMPLING, **changes}
    latents = graph.add(column, "KSampler", inputs, title=f"KSampler: {title}")
    pictures = graph.add(column, "VAEDecode", {"samples": latents[0], "vae": base.vae})
    graph.add(column, "SaveImage", {"images": pictures[0], "filename_prefix": prefix}, size=PICTURE_SIZE, title=title)
    return pictures[0]


def keep(graph: Graph, column: int, trainer: Node, name: str) -> None:
    """Save the personalization."""
    graph.add(column, "PersonalizeSave", {"personalization": trainer[5], "name": name})


def painted_scene(graph: Graph, column: int, base: Loaded) -> tuple[Link, Link]:
    """A picture at the model's own size as latents, without and with its painted place as a noise mask."""
    photo = graph.add(column, "LoadImage", {"image": SCENE}, size=(290, 360), title="Any picture, a place painted")
    sized = graph.add(column, "ImageScale", {"image": photo[0], "upscale_method": "area", "width": SIZE, "height": SIZE,
                                             "crop": "center"}, title="The size the model was trained for")
    latent = graph.add(column, "VAEEncode", {"pixels": sized[0], "vae": base.vae})
    masked = graph.add(column, "SetLatentNoiseMask", {"samples": latent[0], "mask": photo[1]})
    return latent[0], masked[0]
