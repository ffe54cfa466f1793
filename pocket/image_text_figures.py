"""How good is the image-text encoder? Retrieval and zero-shot accuracy on seeds that no training saw.

Asked of the transformers folder that users get. `python -m pocket.image_text_figures` adds to `figures.json`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel

from .autoencoder import decode
from .evaluate import FIGURES, held_out_captions, stack, truth_of
from .image_text import IMAGE_MEAN, IMAGE_STD, transformers_folder
from .judge import COLOUR_NAMES, IGNORED, scene_of
from .published import load_published_decoder, load_published_transform
from .text import tokenize
from .world import SEEDS, Scene, individuals, render, subject
from .world_scenes import CONTEXTS, PHRASES
from .world_shapes import NOUNS

log = logging.getLogger(__name__)

RETRIEVED = 100
"""Pictures and captions among which the right one is looked for."""


@torch.no_grad()
def embed_images(model: CLIPModel, pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, P) unit vectors."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    parts = [model.visual_projection(model.vision_model(pixel_values=(part - mean) / std).pooler_output)
             for part in pictures.split(50)]
    return functional.normalize(torch.cat(parts), dim=-1)


@torch.no_grad()
def embed_texts(model: CLIPModel, prompts: Sequence[str]) -> Tensor:
    """Prompts -> (B, P) unit vectors."""
    parts = [tokenize(list(prompts[i:i + 50])) for i in range(0, len(prompts), 50)]
    pooled = torch.cat([model.text_model(input_ids=ids).pooler_output for ids in parts])
    return functional.normalize(model.text_projection(pooled), dim=-1)


def accuracy(images: Tensor, prompts: Sequence[str], truth: Tensor, model: CLIPModel) -> float:
    """Share of pictures whose most similar prompt is the true one; rows with truth `IGNORED` do not count."""
    answers, counted = (images @ embed_texts(model, prompts).T).argmax(-1), truth != IGNORED
    return (answers[counted] == truth[counted]).float().mean().item()


def zero_shot(model: CLIPModel, images: Tensor, scenes: list[Scene]) -> dict[str, float]:
    """Class, context and colour of held-out scenes by 'a {noun}', 'a {noun} {place}', 'a {colour} {noun}'.

    The context is asked of scenes whose caption names one, among the ten that have a name.
    """
    truth = torch.tensor([truth_of(scene) for scene in scenes])
    nouns = [scene.look.noun for scene in scenes]
    place: list[Tensor] = []
    colour: list[Tensor] = []
    for noun in NOUNS:
        rows = torch.tensor([n == noun for n in nouns])
        placed = [f"a {noun} {PHRASES[context]}" for context in CONTEXTS[1:]]
        painted = [f"a {name} {noun}" for name in COLOUR_NAMES]
        for kind, prompts, column, first in ((place, placed, 1, 1), (colour, painted, 2, 0)):
            answers = (images[rows] @ embed_texts(model, prompts).T).argmax(-1) + first
            kind.append((answers == truth[rows, column])[truth[rows, column] != IGNORED])
    return {"noun": accuracy(images, [f"a {noun}" for noun in NOUNS], truth[:, 0], model),
            "context": torch.cat(place).float().mean().item(), "colour": torch.cat(colour).float().mean().item()}


def retrieval(model: CLIPModel, images: Tensor, scenes: list[Scene]) -> dict[str, float]:
    """Top-1 of `RETRIEVED` pictures with distinct captions, in both directions."""
    distinct = list({scene.caption: i for i, scene in reversed(list(enumerate(scenes)))}.values())[:RETRIEVED]
    cosine = images[distinct] @ embed_texts(model, [scenes[i].caption for i in distinct]).T
    rows = torch.arange(len(distinct))
    return {"image_to_text": (cosine.argmax(-1) == rows).float().mean().item(),
            "text_to_image": (cosine.argmax(0) == rows).float().mean().item(), "of": len(distinct)}


def cut_outs(scenes: list[Scene], ground: int = 0) -> Tensor:
    """The scenes' objects on one grey level, (B, 3, H, W)."""
    rows = []
    for scene in scenes:
        picture, mask = render(scene)
        coverage = mask[..., None] / 255
        rows.append(picture * coverage + ground * (1 - coverage))
    return torch.from_numpy(np.stack(rows)).float().permute(0, 3, 1, 2) / 255


def named_individuals(model: CLIPModel) -> float:
    """Share of named individuals, in new scenes, whose name wins over the 14 others of their noun."""
    looks = list(individuals().items())
    scenes = [scene_of(look, SEEDS["held_out_scenes"][900_000 + i]) for i, (_, look) in enumerate(looks)]
    images, right = embed_images(model, stack(scenes).permute(0, 3, 1, 2)), []
    for noun in NOUNS:
        rows = [i for i, (_, look) in enumerate(looks) if look.noun == noun]
        texts = embed_texts(model, [f"a {looks[i][0]} {noun}" for i in rows])
        right += ((images[rows] @ texts.T).argmax(-1) == torch.arange(len(rows))).tolist()
    return float(np.mean(right))


def subject_figures(model: CLIPModel, through: Any, subjects: int = 48) -> dict[str, float]:
    """Class of held-out subjects, and cosines between them, through the autoencoder."""
    looks = [subject(i, NOUNS[i % len(NOUNS)]) for i in range(subjects)]
    sides = []
    for offset in (0, 5000):
        scenes = [scene_of(look, SEEDS["held_out_subjects"][500_000 + offset + i]) for i, look in enumerate(looks)]
        sides.append(embed_images(model, through(stack(scenes))))
    cosine, nouns = sides[0] @ sides[1].T, torch.arange(subjects) % len(NOUNS)
    is_same_noun = (nouns[:, None] == nouns) & ~torch.eye(subjects, dtype=torch.bool)
    return {"noun": accuracy(sides[0], [f"a {noun}" for noun in NOUNS], nouns, model),
            "same_subject": cosine.diagonal().mean().item(), "same_noun": cosine[is_same_noun].mean().item(),
            "other_noun": cosine[nouns[:, None] != nouns].mean().item(),
            "retrieval_1_in_48": (cosine.argmax(-1) == torch.arange(subjects)).float().mean().item()}


def image_text_figures(model: CLIPModel, count: int = 300) -> dict[str, Any]:
    """All figures, on held-out scenes, raw and through the autoencoder."""
    transform, decoder = load_published_transform(), load_published_decoder()

    def through(pictures: Tensor) -> Tensor:
        return torch.cat([decode(decoder, transform.encode(part)) for part in pictures.split(8)])

    scenes = held_out_captions(count)
    pictures = stack(scenes)
    views = {"raw": embed_images(model, pictures.permute(0, 3, 1, 2)), "through_autoencoder": embed_images(
        model, through(pictures))}
    figures: dict[str, Any] = {name: {"zero_shot": zero_shot(model, images, scenes),
                                      "retrieval": retrieval(model, images, scenes)} for name, images in views.items()}
    truth = torch.tensor([NOUNS.index(scene.look.noun) for scene in scenes])
    prompts = [f"a {noun}" for noun in NOUNS]
    figures["cut_outs"] = {"noun": accuracy(embed_images(model, cut_outs(scenes)), prompts, truth, model)}
    figures["individuals"] = {"name_1_in_15": named_individuals(model)}
    figures["held_out_subjects"] = subject_figures(model, through)
    return figures


def load_model(folder: str | None = None) -> CLIPModel:
    """The model as users load it."""
    return CLIPModel.from_pretrained(folder or str(transformers_folder()), dtype=torch.float32).eval()


def add_figures() -> dict[str, Any]:
    """Measures and writes into `figures.json`."""
    found = image_text_figures(load_model())
    figures = (json.loads(FIGURES.read_text()) if FIGURES.exists() else {}) | {"image_text": found}
    FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(add_figures(), indent=1))
