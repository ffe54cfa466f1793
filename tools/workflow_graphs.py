"""The workflows of the template gallery, each described once; `make workflows` writes both of their forms.

All of them run on the pocket checkpoint as they are. Their notes say what to change for Stable Diffusion.
"""

from __future__ import annotations

from typing import NamedTuple

from .graphs import Graph, Link, Node

NOUN = "dog"
CHECKPOINT = "pocket.safetensors"
FILE = "personalize/pocket_dog"
PHOTOS = [f"personalize/dog_{number}.png" for number in (1, 2, 3, 4)]
SIZE, PICTURES = 128, 4
SAMPLING = {"seed": 7, "steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal"}
TRAINING = {"steps": 300, "learning_rate": 1e-3, "batch": 2, "resolution": SIZE, "seed": 0}
OPTIONS = {"rank": 16, "alpha": 16.0, "text_encoder_rate": 1e-3, "save_every": 100}
CLASS_IMAGES = {"count": 24, "size": SIZE, "steps": 20, "cfg": 4.0, "seed": 0, "batch": 8}

LARGER_MODELS = """**Stable Diffusion 1.5 / SDXL**

| | pocket | SD 1.5 | SDXL |
|---|---|---|---|
| checkpoint | pocket | yours | yours |
| resolution, size, empty latent | 128 | 512 | 1024 |
| learning_rate | 1e-3 | 1e-4 | 1e-4 |
| text_encoder_rate | 1e-3 | 5e-5 | 0 |
| steps | 300 | 400 | 500 |
| cfg of pictures | 4 | 7 | 6 |
"""


class Loaded(NamedTuple):
    """MODEL, CLIP and VAE, as they come from a loader or a trainer."""

    model: Link
    clip: Link
    vae: Link


def load_checkpoint(graph: Graph) -> Loaded:
    """The pocket checkpoint."""
    node = graph.add("CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT}, at=(0, 0))
    return Loaded(node[0], node[1], node[2])


def pick_identifier(graph: Graph, clip: Link) -> Link:
    """A rare word for the subject."""
    return graph.add("IdentifierPicker", {"clip": clip, "class_noun": NOUN, "seed": 0}, at=(0, 160))[0]


def name_the_subject(graph: Graph, text: str, identifier: Link, at: tuple[int, int]) -> Link:
    """A prompt in which {V} becomes the identifier."""
    inputs = {"string": text, "find": "{V}", "replace": identifier}
    return graph.add("StringReplace", inputs, at=at, title="Prompt: {V} is the identifier")[0]


def load_photos(graph: Graph, names: list[str], x: int) -> list[Node]:
    """One Load Image per photo, one below the other."""
    return [graph.add("LoadImage", {"image": name}, at=(x, row * 330), size=(280, 300))
            for row, name in enumerate(names)]


def preserve_prior(graph: Graph, base: Loaded, at: tuple[int, int]) -> Link:
    """Class images and the objective that uses them."""
    x, y = at
    prior = graph.add("PriorSampleGen", {"model": base.model, "clip": base.clip, "vae": base.vae, "class_noun": NOUN,
                                         **CLASS_IMAGES}, at=(x, y), title="Class images: what any dog looks like")
    graph.add("PreviewImage", {"images": prior[1]}, at=(x, y + 430), size=(315, 300), title="Class images")
    return graph.add("PriorPreservation", {"prior": prior[0], "weight": 1.0}, at=(x, y + 770))[0]


def train(graph: Graph, base: Loaded, subject: Link, objective: Link, run_name: str, at: tuple[int, int],
          **changes: object) -> Node:
    """The trainer with its options."""
    x, y = at
    options = graph.add("TrainingOptions", OPTIONS, at=(x, y))
    inputs = {"model": base.model, "clip": base.clip, "vae": base.vae, "subject": subject, "objective": objective,
              "options": options[0], "run_name": run_name, **TRAINING, **changes}
    return graph.add("PersonalizeTrainer", inputs, at=(x, y + 330), size=(315, 620))


def dreambooth(graph: Graph) -> tuple[Loaded, Node, Link]:
    """Four photos, class images and a training run; returns MODEL / CLIP / VAE with the subject, trainer, identifier."""
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photos = load_photos(graph, PHOTOS, 360)
    images = {f"images.image{number}": photo[0] for number, photo in enumerate(photos)}
    subject = graph.add("SubjectPhotos", {**images, "identifier": identifier, "class_noun": NOUN}, at=(0, 520))
    objective = preserve_prior(graph, base, (680, 0))
    trainer = train(graph, base, subject[0], objective, "pocket_dog", (1040, 0))
    return Loaded(trainer[0], trainer[1], base.vae), trainer, identifier


def sample(graph: Graph, base: Loaded, positive: Link, negative: Link, latent: Link, at: tuple[int, int], title: str,
           prefix: str, **changes: object) -> None:
    """KSampler, VAE Decode and Save Image."""
    x, y = at
    inputs = {"model": base.model, "positive": positive, "negative": negative, "latent_image": latent, "denoise": 1.0,
              **SAMPLING, **changes}
    latents = graph.add("KSampler", inputs, at=(x, y), title=f"KSampler: {title}")
    pictures = graph.add("VAEDecode", {"samples": latents[0], "vae": base.vae}, at=(x, y + 290))
    graph.add("SaveImage", {"images": pictures[0], "filename_prefix": prefix}, at=(x + 350, y), size=(400, 430),
              title=title)


def encode(graph: Graph, clip: Link, text: Link | str, at: tuple[int, int], title: str) -> Link:
    """A prompt to CONDITIONING."""
    return graph.add("CLIPTextEncode", {"clip": clip, "text": text}, at=at, size=(315, 110), title=title)[0]


def empty_latent(graph: Graph, at: tuple[int, int]) -> Link:
    """Where pictures start."""
    return graph.add("EmptyLatentImage", {"width": SIZE, "height": SIZE, "batch_size": PICTURES}, at=at)[0]


def keep(graph: Graph, trainer: Node, name: str, at: tuple[int, int]) -> None:
    """Save the personalization, and look at its loss."""
    x, y = at
    graph.add("SavePersonalization", {"personalization": trainer[5], "name": name}, at=(x, y))
    graph.add("LossGraphNode", {"loss": trainer[3], "filename_prefix": "pocket_dog_loss"}, at=(x, y + 200),
              size=(315, 300))


def dreambooth_with_prior_preservation() -> Graph:
    """Photos and class images to a personalization and pictures."""
    graph = Graph("1 DreamBooth LoRA with prior preservation")
    mine, trainer, identifier = dreambooth(graph)
    keep(graph, trainer, FILE, (1400, 560))
    text = name_the_subject(graph, f"a {{V}} {NOUN} on the beach", identifier, (1400, 0))
    positive = encode(graph, mine.clip, text, (1400, 300), "Positive")
    negative = encode(graph, mine.clip, "", (1760, 0), "Negative")
    latent = empty_latent(graph, (1760, 150))
    sample(graph, mine, positive, negative, latent, (1760, 320), "Your subject", "pocket_dog_dreambooth")
    graph.note("Press **Run**: four photos of one dog become a LoRA, and then pictures of that dog elsewhere. It is "
               "trained once; running again loads the result from `output/personalize`.\n\n**Your own subject**: load "
               "3 to 5 photos with different backgrounds, and say what it is in *class_noun* (three nodes) and in "
               "the prompt.\n\nThe class images keep 'a dog' from becoming *your* dog. 100 to 200 of them are usual; "
               "they are kept on disk.", at=(0, 880), size=(315, 330), title="What this does")
    graph.note(LARGER_MODELS, at=(0, 1230), size=(315, 320), title="Other models")
    return graph


def one_photo_with_a_mask() -> Graph:
    """One photo and a painted mask to pictures: the object-specific loss."""
    graph = Graph("2 One photo with a mask")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photo = graph.add("LoadImage", {"image": "personalize/dog_masked.png"}, at=(360, 0), size=(315, 360),
                      title="One photo, the subject painted in the mask editor")
    subject = graph.add("SubjectPhotos", {"images.image0": photo[0], "masks.mask0": photo[1],
                                          "identifier": identifier, "class_noun": NOUN}, at=(360, 420))
    objective = graph.add("MaskedLoss", {"background_weight": 1.0, "object_term": True, "object_weight": 1.0},
                          at=(360, 700))
    trainer = train(graph, base, subject[0], objective[0], "pocket_dog_one_photo", (720, 0), batch=1, steps=200)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    keep(graph, trainer, f"{FILE}_one_photo", (1080, 560))
    text = name_the_subject(graph, f"a {{V}} {NOUN} in the jungle", identifier, (1080, 0))
    positive = encode(graph, mine.clip, text, (1080, 300), "Positive")
    negative = encode(graph, mine.clip, "", (1440, 0), "Negative")
    latent = empty_latent(graph, (1440, 150))
    sample(graph, mine, positive, negative, latent, (1440, 320), "Your subject", "pocket_dog_one_photo")
    graph.note("One photo is enough when the loss knows which pixels are the subject. Right-click your photo, *Open in "
               "Mask Editor*, and paint the **subject**.\n\n*object_term* adds the one-shot paper's loss on the cut-out "
               "subject; it wants *background_weight* 1 beside it. Without it, background_weight 0 simply ignores the "
               "background.", at=(0, 520), size=(315, 260), title="What this does")
    graph.note(LARGER_MODELS, at=(0, 800), size=(315, 320), title="Other models")
    return graph


def dci_against_plain_sampling() -> Graph:
    """The subject of workflow 1, sampled plainly and with DCI from the same seed."""
    graph = Graph("3 DCI against plain sampling")
    mine, _, identifier = dreambooth(graph)
    text = name_the_subject(graph, f"a {{V}} {NOUN} on the beach", identifier, (1400, 0))
    positive = encode(graph, mine.clip, text, (1400, 300), "Positive, plain")
    dci = graph.add("DCIConditioning", {"model": mine.model, "clip": mine.clip, "prompt": text,
                                        "identifier": identifier, "class_noun": NOUN, "auxiliary_noun": "cat",
                                        "omega": 1.0, "window": 0.3, "shared_guidance": True}, at=(1400, 560),
                    size=(315, 330))
    negative = encode(graph, mine.clip, "", (1400, 940), "Negative")
    latent = empty_latent(graph, (1400, 1110))
    sample(graph, mine, positive, negative, latent, (1760, 0), "Plain", "pocket_dog_plain")
    sample(graph, mine._replace(model=dci[0]), dci[1], negative, latent, (1760, 500), "With DCI", "pocket_dog_dci")
    graph.note("Left of the samplers stands workflow 1, with the same settings: if you ran it, its result is loaded and "
               "nothing is trained.\n\nBoth samplers have the same seed. **DCI** denoises a second picture beside yours "
               "for a while, about a *cat* in the dog's place, and lets your picture borrow its surroundings.\n\n"
               "*omega*: more follows the prompt, less keeps the subject. *auxiliary_noun*: something often seen "
               "in the prompt's surroundings, never a synonym of the class noun.", at=(0, 880), size=(315, 330),
               title="What this does")
    graph.note(LARGER_MODELS + "\nDCI works on models with cross-attention: SD 1.x, SD 2.x, SDXL. Not on Flux, SD 3.",
               at=(0, 1230), size=(315, 360), title="Other models")
    return graph


def saved_personalization_with_stock_nodes() -> Graph:
    """A saved file, used for img2img and for inpainting."""
    graph = Graph("4 Saved personalization with img2img and inpainting")
    base = load_checkpoint(graph)
    loaded = graph.add("LoadPersonalization", {"name": f"{FILE}.safetensors", "model": base.model, "clip": base.clip},
                       at=(0, 160))
    mine = Loaded(loaded[0], loaded[1], base.vae)
    text = name_the_subject(graph, f"a {{V}} {NOUN} on the beach", loaded[2], (360, 0))
    positive = encode(graph, mine.clip, text, (360, 300), "Positive")
    negative = encode(graph, mine.clip, "", (360, 460), "Negative")
    photo = graph.add("LoadImage", {"image": "personalize/scene_masked.png"}, at=(0, 440), size=(315, 360),
                      title="Any picture, the place painted in the mask editor")
    latent = graph.add("VAEEncode", {"pixels": photo[0], "vae": base.vae}, at=(360, 620))
    sample(graph, mine, positive, negative, latent[0], (720, 0), "Image to image", "pocket_dog_img2img", denoise=0.7)
    masked = graph.add("SetLatentNoiseMask", {"samples": latent[0], "mask": photo[1]}, at=(360, 720))
    sample(graph, mine, positive, negative, masked[0], (720, 500), "Inpainting", "pocket_dog_inpaint")
    graph.note("Loads what workflow 1 saved (run that first), and uses it as any MODEL and CLIP: **img2img** above, "
               "**inpainting** of the painted place below.\n\nThe file knows its identifier: it comes out of the loader "
               "and goes into the prompt. The stock *Load LoRA* reads the file as well; then type the identifier "
               "yourself.", at=(0, 840), size=(315, 240), title="What this does")
    graph.note("**Stable Diffusion 1.5 / SDXL**: choose the checkpoint that the file was trained on; the loader "
               "warns if it is another. Load a picture of 512 x 512 / 1024 x 1024 pixels.", at=(360, 840),
               size=(315, 160), title="Other models")
    return graph


WORKFLOWS = (dreambooth_with_prior_preservation, one_photo_with_a_mask, dci_against_plain_sampling,
             saved_personalization_with_stock_nodes)
