"""The workflows of the template gallery, each described once; `make workflows` writes both of their forms.

All of them run on the pocket checkpoint as they are. Their notes say what to change for Stable Diffusion.
"""

from __future__ import annotations

from typing import NamedTuple

from ..pocket.config import SIZE
from .graphs import Graph, Link, Node

NOUN = "dog"
CHECKPOINT = "pocket.safetensors"
FILE = "personalize/pocket_dog"
EXAMPLE_FILE = "pocket_dog_example.safetensors"
PHOTOS = [f"personalize_dog_{number}.png" for number in (1, 2, 3, 4)]
MASKED_PHOTO, SCENE = "personalize_dog_masked.png", "personalize_scene_masked.png"
PICTURES = 4
# The pocket model leaves coloured squares under deterministic samplers (its card says why).
SAMPLING = {"seed": 7, "steps": 25, "cfg": 3.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
TRAINING = {"steps": 300, "learning_rate": 5e-4, "batch": 2, "resolution": SIZE, "seed": 0}
OPTIONS = {"rank": 16, "alpha": 16.0, "targets": "attention_and_feed_forward", "text_encoder_rate": 5e-4,
           "save_every": 100}
CLASS_IMAGES = {"count": 24, "size": SIZE, "steps": 20, "cfg": 3.0, "seed": 0, "batch": 8}

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
    return graph.add(column, "PriorPreservation", {"prior": prior[0], "weight": 1.0})[0]


def train(graph: Graph, column: int, base: Loaded, subject: Link, objective: Link, run_name: str,
          **changes: object) -> Node:
    """The trainer with its options."""
    options = graph.add(column, "TrainingOptions", OPTIONS)
    inputs = {"model": base.model, "clip": base.clip, "vae": base.vae, "subject": subject, "objective": objective,
              "options": options[0], "run_name": run_name, **TRAINING, **changes}
    return graph.add(column, "PersonalizeTrainer", inputs, size=(315, 620))


class Personalized(NamedTuple):
    """What training gives: MODEL / CLIP / VAE, the identifier, the trainer's node."""

    loaded: Loaded
    identifier: Link
    trainer: Node


def dreambooth(graph: Graph) -> Personalized:
    """Four photos, class images and a training run, in columns 0 to 3."""
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photos = [graph.add(1, "LoadImage", {"image": name}, size=(280, 320)) for name in PHOTOS]
    images = {f"images.image{number}": photo[0] for number, photo in enumerate(photos)}
    subject = graph.add(0, "SubjectPhotos", {**images, "identifier": identifier, "class_noun": NOUN})
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
    graph.add(column, "SavePersonalization", {"personalization": trainer[5], "name": name})
    graph.add(column, "LossGraphNode", {"loss": trainer[3], "filename_prefix": "pocket_dog_loss"}, size=(315, 300))


def dreambooth_with_prior_preservation() -> Graph:
    """Photos and class images to a personalization and pictures."""
    graph = Graph("1 DreamBooth LoRA with prior preservation")
    mine = dreambooth(graph)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the desert", mine.identifier)
    positive = encode(graph, 4, mine.loaded.clip, text, "Positive")
    keep(graph, 4, mine.trainer, FILE)
    negative = encode(graph, 5, mine.loaded.clip, "", "Negative")
    start = Start(positive, negative, empty_latent(graph, 5))
    sample(graph, 5, mine.loaded, start, "Your subject", "pocket_dog_dreambooth")
    graph.note(0, "Press **Run**: four photos of one dog become a LoRA, and then pictures of that dog elsewhere. It is "
                  "trained once; running again loads the result from `output/personalize`.\n\n**Your own subject**: "
                  "load 3 to 5 photos with different backgrounds, and say what it is in *class_noun* (three nodes) and "
                  "in the prompt.\n\nThe class images keep 'a dog' from becoming *your* dog. 100 to 200 of them are "
                  "usual; they are kept on disk.", height=330, title=ABOUT)
    graph.note(0, OTHER_MODELS, height=300, title=OTHER)
    return graph


def one_photo_with_a_mask() -> Graph:
    """One photo and a painted mask to pictures: the object-specific loss."""
    graph = Graph("2 One photo with a mask")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photo = graph.add(1, "LoadImage", {"image": MASKED_PHOTO}, size=(315, 360), title="One photo, the subject painted")
    subject = graph.add(1, "SubjectPhotos", {"images.image0": photo[0], "masks.mask0": photo[1],
                                             "identifier": identifier, "class_noun": NOUN})
    objective = graph.add(1, "MaskedLoss", {"background_weight": 1.0, "object_term": True, "object_weight": 1.0})
    trainer = train(graph, 2, base, subject[0], objective[0], "pocket_dog_one_photo", batch=1, steps=200)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = name_the_subject(graph, 3, f"a {{V}} {NOUN} in the jungle", identifier)
    positive = encode(graph, 3, mine.clip, text, "Positive")
    keep(graph, 3, trainer, f"{FILE}_one_photo")
    start = Start(positive, encode(graph, 4, mine.clip, "", "Negative"), empty_latent(graph, 4))
    sample(graph, 4, mine, start, "Your subject", "pocket_dog_one_photo")
    graph.note(0, "One photo is enough when the loss knows which pixels are the subject. Right-click your photo, *Open "
                  "in Mask Editor*, and paint the **subject**.\n\n*object_term* adds the one-shot paper's loss on the "
                  "cut-out subject; it wants *background_weight* 1 beside it. Without it, background_weight 0 simply "
                  "ignores the background.", height=260, title=ABOUT)
    graph.note(0, OTHER_MODELS, height=300, title=OTHER)
    return graph


def dci_against_plain_sampling() -> Graph:
    """The subject of workflow 1, sampled plainly and with DCI from the same seed."""
    graph = Graph("3 DCI against plain sampling")
    mine = dreambooth(graph)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the desert", mine.identifier)
    dci = graph.add(4, "DCIConditioning", {"model": mine.loaded.model, "clip": mine.loaded.clip, "prompt": text,
                                           "identifier": mine.identifier, "class_noun": NOUN, "auxiliary_noun": "cat",
                                           "omega": 1.0, "window": 0.3, "shared_guidance": True})
    positive = encode(graph, 4, mine.loaded.clip, text, "Positive, plain")
    start = Start(positive, encode(graph, 4, mine.loaded.clip, "", "Negative"), empty_latent(graph, 4))
    sample(graph, 5, mine.loaded, start, "Plain", "pocket_dog_plain")
    with_dci = mine.loaded._replace(model=dci[0])
    sample(graph, 5, with_dci, start._replace(positive=dci[1]), "With DCI", "pocket_dog_dci")
    graph.note(0, "Columns 1 to 4 are workflow 1 with the same settings: if you ran it, its result is loaded and "
                  "nothing is trained.\n\nBoth samplers have the same seed. **DCI** denoises a second picture beside "
                  "yours for a while, about a *cat* in the dog's place, and lets your picture borrow its "
                  "surroundings.\n\n*omega*: more follows the prompt, less keeps the subject. *auxiliary_noun*: "
                  "something often seen in the prompt's surroundings, never a synonym of the class noun.", height=330,
               title=ABOUT)
    graph.note(0, OTHER_MODELS + "\nDCI works on models with cross-attention (SD 1.x, SD 2.x, SDXL), not on Flux or "
                                 "SD 3.", height=350, title=OTHER)
    return graph


def saved_personalization_with_stock_nodes() -> Graph:
    """A saved file, used for img2img and for inpainting."""
    graph = Graph("4 Saved personalization with img2img and inpainting")
    base = load_checkpoint(graph)
    loaded = graph.add(0, "LoadPersonalization", {"name": EXAMPLE_FILE, "model": base.model, "clip": base.clip})
    mine = Loaded(loaded[0], loaded[1], base.vae)
    photo = graph.add(1, "LoadImage", {"image": SCENE}, size=(315, 360), title="Any picture, a place painted")
    latent = graph.add(1, "VAEEncode", {"pixels": photo[0], "vae": base.vae})
    masked = graph.add(1, "SetLatentNoiseMask", {"samples": latent[0], "mask": photo[1]})
    text = name_the_subject(graph, 2, f"a {{V}} {NOUN} on the beach", loaded[2])
    positive = encode(graph, 2, mine.clip, text, "Positive")
    start = Start(positive, encode(graph, 2, mine.clip, "", "Negative"), latent[0])
    sample(graph, 3, mine, start, "Image to image", "pocket_dog_img2img", denoise=0.7)
    sample(graph, 3, mine, start._replace(latent=masked[0]), "Inpainting", "pocket_dog_inpaint")
    graph.note(0, "Loads a personalization (this one comes with the extension; choose yours in *name*) and uses it as "
                  "any MODEL and CLIP: **img2img** above, **inpainting** of the painted place below.\n\nThe file "
                  "knows its identifier: it comes out of the loader and goes into the prompt. The stock *Load LoRA "
                  "(Model and CLIP)* reads the file as well; then type the identifier yourself.", height=240,
               title=ABOUT)
    graph.note(0, "Choose the checkpoint that the file was trained on; the loader warns if it is another. Load a "
                  "picture of 512 x 512 (SD 1.5) or 1024 x 1024 pixels (SDXL).", height=140, title=OTHER)
    return graph


WORKFLOWS = (dreambooth_with_prior_preservation, one_photo_with_a_mask, dci_against_plain_sampling,
             saved_personalization_with_stock_nodes)
