"""How is the image-text encoder trained? CLIP's contrast between pictures and captions.

The image tower learns, and both projections; the text side is the generator's own text encoder, frozen, so that a
vector in the place of a token means the same to the generator and here. Plain torch under transformers' CLIPModel
names, which stock CLIPVisionLoader reads.

Source: Radford et al. 2021 (CLIP), figure 3.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import CONTEXT_DIM, VISION_CONFIG, VOCAB_SIZE
from .drawing import coverage, render
from .image_text import IMAGE_MEAN, IMAGE_STD
from .judge import IGNORED, alone
from .language import noun_phrase
from .looks import SEEDS, individual_look, individuals
from .rows import counter_rows
from .scenes import Scene, training_scene
from .text import Layer, TextEncoder
from .tokens import vocabulary
from .world_shapes import NOUNS

UNNAMED, CUT_OUT, SHORT = 0.15, 0.25, 0.2
"""Shares: individuals that no caption can tell apart; things cut out on one colour; captions of the class alone."""
STRANGERS: Final = 48
"""Tokens that training never showed, as wrong answers beside the nouns: no picture should resemble them."""
CLASS_WEIGHT: Final = 0.5
STARTING_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


class VisionTransformer(nn.Module):
    """CLIP's image tower: patches, a class token, layers; (B, 3, 96, 96), normalised -> (B, 128), pooled."""

    def __init__(self) -> None:
        super().__init__()
        patch, width = VISION_CONFIG["patch_size"], VISION_CONFIG["hidden_size"]
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(0.02 * torch.randn(width))
        self.embeddings.patch_embedding = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.embeddings.position_embedding = nn.Embedding((VISION_CONFIG["image_size"] // patch) ** 2 + 1, width)
        nn.init.normal_(self.embeddings.position_embedding.weight, std=0.02)
        self.pre_layrnorm, self.post_layernorm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(Layer() for _ in range(VISION_CONFIG["num_hidden_layers"]))

    def forward(self, pictures: Tensor) -> Tensor:
        cells = self.embeddings.patch_embedding(pictures).flatten(2).transpose(1, 2)
        first = self.embeddings.class_embedding.to(cells).expand(len(cells), 1, -1)
        x = self.pre_layrnorm(torch.cat([first, cells], 1) + self.embeddings.position_embedding.weight)
        everything_is_seen = torch.zeros((), device=x.device)
        for layer in self.encoder.layers:
            x = layer(x, everything_is_seen)
        return self.post_layernorm(x[:, 0])


class Tower(nn.Module):
    """The image tower and its projection, under the names of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_model = VisionTransformer()
        self.visual_projection = nn.Linear(CONTEXT_DIM, CONTEXT_DIM, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(pictures))


class ImageTextEncoder(nn.Module):
    """`vision`, `text_projection` and `logit_scale`, which learn; the text encoder is handed in and is none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = Tower()
        self.text_projection = nn.Linear(CONTEXT_DIM, CONTEXT_DIM, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor([STARTING_SCALE]).log())
        self.register_buffer("text_digest", torch.zeros(()))
        self.text_digest: Tensor
        """Which text encoder it was trained with (`digest`)."""

    def embed_images(self, pictures: Tensor) -> Tensor:
        """(B, 3, 96, 96) in [0, 1] -> (B, 128) unit vectors."""
        mean, std = (pictures.new_tensor(value).view(3, 1, 1) for value in (IMAGE_MEAN, IMAGE_STD))
        return functional.normalize(self.vision((pictures - mean) / std).float(), dim=-1)

    def embed_texts(self, pooled: Tensor) -> Tensor:
        """The text encoder's pooled output (B, 128) -> unit vectors."""
        return functional.normalize(self.text_projection(pooled).float(), dim=-1)

    @property
    def trained_with(self) -> float:
        """The text encoder's digest; 0 before the first sitting."""
        return float(self.text_digest)

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with before a softmax."""
        return self.logit_scale.exp().clamp(max=LARGEST_SCALE)


def digest(text: nn.Module) -> Tensor:
    """A number that tells text encoders apart, as the state keeps them in float16."""
    return torch.stack([p.detach().half().double().abs().sum() for p in text.parameters()]).sum().float().cpu()


@torch.no_grad()
def pooled(text: TextEncoder, rows: Tensor) -> Tensor:
    """The text encoder's output at the first EOS (row 1), (B, 128). Attention is causal, so padding is cut off."""
    ends = (rows == 1).int().argmax(-1)
    n = int(ends.max()) + 1
    table = torch.cat([text.learned_rows, text.name_rows])
    x = functional.embedding(rows[:, :n].long(), table) + text.positions[:n]
    mask = torch.full((n, n), -1e4, device=x.device).triu(1)
    for layer in text.layers:
        x = layer(x, mask)
    return text.final_layer_norm(x)[torch.arange(len(rows), device=rows.device), ends].float()


class Prompts(NamedTuple):
    """Pooled prompts of the two classifications, made once: the text encoder is frozen."""

    nouns: Tensor
    """'a {noun}', (nouns + strangers, 128)."""
    names: Tensor
    """'a {name} {noun}' of every named individual."""


def fixed_prompts(text: TextEncoder) -> Prompts:
    """The prompts of nouns, strangers and names.

    A stranger is a token that no caption holds: its row comes from the counter, as in the loaded checkpoint.
    """
    words, device = vocabulary(), text.positions.device
    unknown = sorted(set(range(VOCAB_SIZE)) - set(words.ids.tolist()))
    chosen = np.random.default_rng(4).choice(unknown, STRANGERS, replace=False)
    known = text.name_rows
    base = len(text.learned_rows) + len(known)
    strange = np.stack([words.encode("a dog")] * STRANGERS)
    strange[:, 2] = np.arange(base, base + STRANGERS)
    nouns = np.concatenate([np.stack([words.encode(f"a {noun}") for noun in NOUNS]), strange])
    names = np.stack([words.encode(f"a {name} {look.noun}") for name, look in individuals().items()])
    text.name_rows = torch.cat([known, counter_rows(torch.from_numpy(chosen)).to(known)])
    found = [pooled(text, torch.from_numpy(rows).to(device)) for rows in (nouns, names)]
    text.name_rows = known
    return Prompts(*found)


class EncoderBatch(NamedTuple):
    """What one step sees."""

    pictures: Tensor
    """(B, 3, 96, 96) uint8."""
    rows: Tensor
    """(B, 77) compact token rows of the captions."""
    noun: Tensor
    """(B,) the only noun's number; `IGNORED` where there are several things."""
    name: Tensor
    """(B,) the individual's number among the named ones, else `IGNORED`."""


def encoder_batch(number: int, batch: int) -> EncoderBatch:
    """Pictures of the encoder's own range, `number` * `batch` and following."""
    first, rng = SEEDS["image_text"].start + number * batch, np.random.default_rng([number, 9])
    names = list(individuals())
    drawn = [_sample(seed, rng) for seed in range(first, first + batch)]
    noun = [IGNORED if len(scene.things) > 1 else NOUNS.index(scene.things[0].look.noun) for scene, *_ in drawn]
    name = [IGNORED if len(scene.things) > 1 or not scene.things[0].name else names.index(scene.things[0].name)
            for scene, *_ in drawn]
    rows = np.stack([vocabulary().encode(caption) for _, _, caption in drawn])
    pictures = torch.from_numpy(np.stack([picture for _, picture, _ in drawn])).permute(0, 3, 1, 2).contiguous()
    return EncoderBatch(pictures, torch.from_numpy(rows), torch.tensor(noun), torch.tensor(name))


def _sample(seed: int, rng: np.random.Generator) -> tuple[Scene, np.ndarray, str]:
    """A scene, its picture and what is said of it."""
    scene = training_scene(seed)
    if rng.random() < UNNAMED:
        strangers = SEEDS["judge_subjects"]
        scene = alone(individual_look(strangers[int(rng.integers(len(strangers)))]), seed)
        scene = replace(scene, caption=f"a {scene.things[0].look.noun}")
    picture, labels = render(scene)
    is_single = len(scene.things) == 1 and scene.style == "photo"
    if not is_single:
        return scene, picture, scene.caption
    caption = scene.caption
    if rng.random() < CUT_OUT:
        ground, cover = rng.choice([0, 127, 255]), coverage(labels, 1)[..., None]
        picture = (picture * cover + ground * (1 - cover)).round().astype(np.uint8)
        thing = scene.things[0]
        caption = f"a {thing.look.noun}" if thing.look.is_individual and not thing.name else \
            noun_phrase(thing, scene.style, "a", random.Random(seed))
    return scene, picture, f"a {scene.things[0].look.noun}" if rng.random() < SHORT else caption


def contrast(images: Tensor, texts: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE in both directions; rows of one caption are not each other's negatives."""
    same = (rows[:, None] == rows[None]).all(-1) & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    logits = (scale * images @ texts.T).masked_fill(same, -torch.inf)
    truth = torch.arange(len(rows), device=rows.device)
    return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2


def encoder_loss(encoder: ImageTextEncoder, images: Tensor, texts: Tensor, batch: EncoderBatch,
                 prompts: Prompts) -> Tensor:
    """The contrast, and classification by prompts: 'a {noun}' among nouns and strangers, 'a {name} {noun}' among names.

    Args:
        images: unit vectors of the pictures.
        texts: pooled captions, (B, 128).
    """
    loss = contrast(images, encoder.embed_texts(texts), batch.rows, encoder.scale)
    for truth, fixed in ((batch.noun, prompts.nouns), (batch.name, prompts.names)):
        if (truth != IGNORED).any():
            logits = encoder.scale * images @ encoder.embed_texts(fixed).T
            loss = loss + CLASS_WEIGHT * functional.cross_entropy(logits, truth.long(), ignore_index=IGNORED)
    return loss


@torch.no_grad()
def read_nouns(encoder: ImageTextEncoder, images: Tensor, batch: EncoderBatch, prompts: Prompts) -> float:
    """Share of pictures of one thing whose noun is the nearest of all 'a {noun}'."""
    is_told = batch.noun != IGNORED
    nearest = (images[is_told] @ encoder.embed_texts(prompts.nouns[:len(NOUNS)]).T).argmax(-1)
    return float((nearest == batch.noun[is_told]).float().mean())
