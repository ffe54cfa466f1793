"""What is in a picture, how many, where, in which colour, wearing what, in which place and style, and who?

A small network that learns from true renders only, raw and through the autoencoder. It is frozen before the generator
is tuned by its answers, and never sees a generated picture while it learns.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .config import SIZE
from .drawing import render
from .language import plural
from .looks import NAMED_COLOURS, SEEDS, Look, individual_look
from .places import CONTEXTS, PHRASES
from .placing import place_one
from .scenes import ACCESSORIES, GREY_STYLES, STYLES, Scene, Thing, headroom, possible_contexts, training_scene
from .world_shapes import NOUNS

JUDGE_FILE: Final = Path(__file__).parent / "judge" / "judge.safetensors"
IGNORED: Final = -100
MOST: Final = 3
TWO_COLOURS: Final = "two colours"
COLOUR_NAMES: Final = (*NAMED_COLOURS, TWO_COLOURS)
WORN: Final = ("", *ACCESSORIES)
EMBEDDING: Final = 64
TEMPERATURE: Final = 0.1
HEADS: Final[dict[str, tuple[int, ...]]] = {
    "count": (len(NOUNS), MOST + 1), "colour": (len(NOUNS), len(COLOUR_NAMES)), "accessory": (len(NOUNS), len(WORN)),
    "context": (len(CONTEXTS),), "style": (len(STYLES),),
}
"""Classifications: of each noun how many, which colour and what it wears; of the picture place and style."""
OF_THINGS, OF_PICTURES = ("count", "colour", "accessory"), ("count", "context", "style")
"""Who is asked: what a noun finds, by a head that all nouns share, or the whole picture; of the number both."""
THING: Final = 160
"""Numbers by which what a noun finds is described."""
FINE, COARSE = 15, 21
"""Layers of `Judge.features` after which pictures are 12 x 12 and 6 x 6 cells."""


class Judge(nn.Module):
    """(B, 3, 96, 96) in [0, 1] -> logits by head, `place` (B, nouns, 2) in [0, 1], `identity` (B, 64) unit vectors.

    Each noun looks for itself among 12 x 12 cells, and what it finds is asked for colour and accessory by heads that
    all nouns share, so that a colour is learned once and not ten times.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in ((3, 32), (32, 64), (64, 128), (128, 192)):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.GroupNorm(8, n_out), nn.SiLU()]
            layers += [nn.Conv2d(n_out, n_out, 3, padding=1), nn.GroupNorm(8, n_out), nn.SiLU()] * (n_in > 3)
        layers += [nn.Conv2d(192, 96, 1), nn.SiLU(), nn.Flatten()]
        self.features = nn.Sequential(*layers, nn.Linear(96 * (SIZE // 16) ** 2, 320), nn.SiLU())
        self.fine, self.coarse = nn.Conv2d(128 + 3, THING, 1), nn.Conv2d(192, THING, 1)
        self.where = nn.Conv2d(THING, len(NOUNS) + 1, 1)
        self.thing = nn.Sequential(nn.Linear(THING + 1, THING), nn.SiLU())
        self.of_thing = nn.ModuleDict({name: nn.Linear(THING, HEADS[name][-1]) for name in OF_THINGS})
        self.heads = nn.ModuleDict({name: nn.Linear(320, int(np.prod(HEADS[name]))) for name in OF_PICTURES})
        self.identity = nn.Sequential(nn.Linear(THING, 192), nn.SiLU(), nn.Linear(192, EMBEDDING))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        centred = (pictures - 0.5) * 4
        fine = self.features[:FINE](centred)
        coarse = self.features[FINE:COARSE](fine)
        whole = self.features[COARSE:](coarse)
        answers = {name: head(whole).unflatten(-1, HEADS[name]) for name, head in self.heads.items()}
        colours = functional.avg_pool2d(centred, SIZE // fine.shape[-1]).to(fine.dtype)
        cells = functional.silu(self.fine(torch.cat([fine, colours], dim=1))
                                + functional.interpolate(self.coarse(coarse), scale_factor=2.0))  # (B, THING, 12, 12)
        scores = self.where(cells).flatten(2).float()  # (B, nouns + 1, 144)
        looked_at = scores.softmax(-1)
        found = looked_at.to(cells.dtype) @ cells.flatten(2).mT  # (B, nouns + 1, THING); the last row is of anything
        strength = scores.logsumexp(-1, keepdim=True).to(found.dtype)
        things = self.thing(torch.cat([found, strength], dim=-1)[:, :-1])
        for name, head in self.of_thing.items():
            answers[name] = answers.get(name, 0) + head(things)
        return answers | {"place": looked_at[:, :-1] @ _middles(fine.shape[-1]).to(looked_at),
                          "identity": functional.normalize(self.identity(found[:, -1]).float(), dim=-1)}


def _middles(side: int) -> Tensor:
    """Middles of cells in units of the picture, (side^2, 2): x, y."""
    steps = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def labels_of(scene: Scene) -> dict[str, np.ndarray]:
    """What the heads should say; `IGNORED` (or nan, for places) where a question has no one answer."""
    found = {"count": np.zeros(len(NOUNS), np.int64), "colour": np.full(len(NOUNS), IGNORED),
             "accessory": np.full(len(NOUNS), IGNORED), "place": np.full((len(NOUNS), 2), np.nan, np.float32),
             "context": np.array(CONTEXTS.index(scene.context)), "style": np.array(STYLES.index(scene.style))}
    for noun in {thing.look.noun for thing in scene.things}:
        i, same = NOUNS.index(noun), [thing for thing in scene.things if thing.look.noun == noun]
        found["count"][i] = len(same)
        found["accessory"][i] = WORN.index(same[0].accessory)
        colours = {colour_label(thing.look) for thing in same}
        if len(colours) == 1 and scene.style not in GREY_STYLES:
            found["colour"][i] = colours.pop()
        if len(same) == 1:
            found["place"][i] = (same[0].spot.x, same[0].spot.y)
    return found


def colour_label(look: Look) -> int:
    """The index of a look's colour; individuals have two."""
    return COLOUR_NAMES.index(TWO_COLOURS if look.is_individual else look.colour)


def alone(look: Look, seed: int) -> Scene:
    """A look by itself in a place where it can be seen, in the pose of the seed."""
    rng = random.Random(seed)
    accessory = rng.choice(ACCESSORIES) if rng.random() < 0.15 else ""
    thing = Thing(look=look, spot=place_one(rng, "", headroom(look, accessory))[0], accessory=accessory,
                  accessory_colour="yellow" if accessory else "",
                  jitter=(rng.randint(-9, 9), rng.randint(-9, 9), rng.randint(-9, 9)))
    return Scene(things=(thing,), relation="", context=rng.choice(possible_contexts([look])), style="photo",
                 caption="", seed=seed)


def judge_batch(number: int, batch: int) -> dict[str, Tensor]:
    """Half scenes of every kind, half pairs of pictures of one individual.

    Returns:
        `pictures` (batch, 3, 96, 96) uint8 and the labels; of the second half, row i and row i + batch / 4 show the
        same individual in two poses and places.
    """
    half, quarter = batch // 2, batch // 4
    scenes = [training_scene(SEEDS["judge"].start + number * half + i) for i in range(half)]
    views: list[list[Scene]] = [[], []]
    for i in range(quarter):
        instance = (number * quarter + i) % len(SEEDS["judge_subjects"])
        look = individual_look(SEEDS["judge_subjects"][instance])
        for k in range(2):
            views[k].append(alone(look, SEEDS["judge"].start + (2 * (number * quarter + i) + k) % 10**8))
    scenes += views[0] + views[1]
    labels = [labels_of(scene) for scene in scenes]
    for row in labels[half:]:
        row["colour"][:] = IGNORED  # else two thirds of all colours would be "two colours", which is soon said of all
    stacked = {key: torch.from_numpy(np.stack([row[key] for row in labels])) for key in labels[0]}
    pictures = torch.from_numpy(np.stack([render(scene)[0] for scene in scenes]))
    return {"pictures": pictures.permute(0, 3, 1, 2), **stacked}


def contrastive_loss(embeddings: Tensor) -> Tensor:
    """NT-Xent over (2 N, d) unit vectors whose rows i and i + N are views of one identity.

    Source: Chen et al. 2020 (SimCLR), eq. 1.
    """
    similarity = embeddings @ embeddings.T / TEMPERATURE
    similarity = similarity.masked_fill(torch.eye(len(embeddings), dtype=torch.bool, device=similarity.device), -1e4)
    n = len(embeddings)
    return functional.cross_entropy(similarity, (torch.arange(n, device=similarity.device) + n // 2) % n)


def judge_loss(answers: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of every head, squared error of places (in units of 1/10 picture), and identity."""
    loss = contrastive_loss(answers["identity"][len(answers["identity"]) // 2:])
    for name in HEADS:
        logits, target = answers[name].float().flatten(0, -2), labels[name].flatten().long()
        weight = 4.0 if name == "count" else 1.0  # ten nouns a picture, most of them absent
        loss = loss + weight * functional.cross_entropy(logits, target, ignore_index=IGNORED, label_smoothing=0.02)
    is_there = ~labels["place"].isnan()
    error = (answers["place"].float() - labels["place"].nan_to_num()) * is_there
    return loss + 100 * error.square().sum() / is_there.sum().clamp(min=1)


def load_judge(path: Path = JUDGE_FILE) -> Judge:
    """The frozen judge."""
    judge = Judge()
    judge.load_state_dict({key: tensor.float() for key, tensor in load_file(path).items()})
    return judge.eval().requires_grad_(False)


def truth_of(scene: Scene) -> dict[str, Any]:
    """What a caption promises: nouns with their number, told colours and accessories, place and style where told."""
    caption, told = scene.caption, {key: dict[str, Any]() for key in ("nouns", "colours", "accessories")}
    for thing in scene.things:
        noun = thing.look.noun
        told["nouns"][noun] = told["nouns"].get(noun, 0) + 1
        spoken = plural(noun) if scene.relation == "alike" else noun
        if not thing.name and f" {thing.look.colour} {spoken}" in f" {caption}":
            told["colours"][noun] = thing.look.colour
        if thing.accessory and f"{thing.accessory}" in caption:
            told["accessories"][noun] = thing.accessory
    is_placed = any(phrase and phrase in caption for phrase in PHRASES[scene.context])
    return told | {"context": scene.context if is_placed else "", "style": scene.style}


def without_captions_of_names(scenes: list[Scene]) -> list[Scene]:
    """Scenes whose captions can be checked from the picture alone."""
    return [scene for scene in scenes if not any(thing.name for thing in scene.things)]


def read(answers: dict[str, Tensor], row: int) -> dict[str, Any]:
    """The judge's answer for one picture, in words: {'nouns': {noun: number}, 'colours': ..., 'context': ..., ...}."""
    number = answers["count"][row].argmax(-1).tolist()
    colour, worn = (answers[name][row].argmax(-1).tolist() for name in ("colour", "accessory"))
    return {"nouns": {noun: n for noun, n in zip(NOUNS, number, strict=True) if n},
            "colours": {noun: COLOUR_NAMES[c] for noun, c in zip(NOUNS, colour, strict=True)},
            "accessories": {noun: WORN[w] for noun, w in zip(NOUNS, worn, strict=True)},
            "places": dict(zip(NOUNS, answers["place"][row].tolist(), strict=True)),
            "context": CONTEXTS[int(answers["context"][row].argmax())],
            "style": STYLES[int(answers["style"][row].argmax())]}

