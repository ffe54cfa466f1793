"""How is the image-text encoder trained? CLIP's contrast between world pictures and their captions.

Its text side is the frozen text encoder of the committed checkpoint and one new matrix, the text projection: a
vector in the place of a token means the same to the generator and here. Only the image side and both projections
learn.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from .autoencoder import decode
from .config import CONTEXT_DIM, EOS, VISION_CONFIG, VOCAB_SIZE
from .image_text import IMAGE_MEAN, IMAGE_STD, IMAGE_TEXT_FILE, save_image_text
from .judge import scene_of
from .klt import Transform
from .names import load_names
from .published import key_of, load_published_decoder, load_published_transform, published_tensors, published_text
from .text import build_text_encoder, tokenize, tokenizer
from .world import SEEDS, Scene, compose_caption, individual_look, individuals, render, training_scene
from .world_shapes import NOUNS

log = logging.getLogger(__name__)

BATCH = 96
PEAK_LR = 1.5e-3
WARM_UP = 150
FIRST_SEED = 7 * 10**8
"""Pictures that the generator's training did not see, as it happens; held-out seeds are other ranges."""
UNNAMED_SHARE, CUT_OUT_SHARE, RECONSTRUCTED_SHARE = 0.15, 0.25, 0.45
SHORT_SHARE, BARE_SHARE = 0.2, 0.15
"""Captions that say the class only, and captions without their article."""
STRANGERS = 48
"""Words of CLIP's vocabulary that stand beside the world's classes as wrong answers in every step: the world never
taught them, so to the text encoder they are noise, which no picture should resemble."""
CLASS_WEIGHT = 0.5
"""Weight of the two classifications by prompts, of the class and of the individual, beside the contrast."""
DECODED_POOL = 800
"""Pictures that went through the true decoder, drawn once; others use the transform's linear inverse, which is a
cheap stand-in for it."""
POOL_ROWS, REPLAYED_ROWS, MEMORY = 12, 52, 4000
"""Rows of each batch that come from that pool; rows that were seen before, with another disturbance, for drawing
costs as much as learning; and of how many such pictures they are drawn."""
STARTING_SCALE = 1 / 0.07
LARGEST_SCALE = 100.0


class ImageTextEncoder(nn.Module):
    """The image tower, and the text projection on top of the frozen text encoder's pooled output."""

    def __init__(self, text: CLIPTextModel) -> None:
        super().__init__()
        self.vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION_CONFIG, attn_implementation="eager"))
        self.text_projection = nn.Linear(CONTEXT_DIM, CONTEXT_DIM, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(STARTING_SCALE).log())
        self.text = [text]  # in a list, so that its weights are none of ours
        self.pooled: dict[str, Tensor] = {}

    def embed_images(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, P) unit vectors."""
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
        return functional.normalize(self.vision((pictures - mean) / std).image_embeds.float(), dim=-1)

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """Captions -> (B, P) unit vectors; the frozen part is computed once per caption."""
        if fresh := sorted(set(captions) - self.pooled.keys()):
            self.pooled |= zip(fresh, pool_captions(self.text[0], fresh), strict=True)
        return functional.normalize(self.text_projection(torch.stack([self.pooled[c] for c in captions])), dim=-1)

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with before a softmax."""
        return self.logit_scale.exp().clamp(max=LARGEST_SCALE)


def load_text() -> CLIPTextModel:
    """The committed checkpoint's text encoder, with CLIP's whole table."""
    text, state = build_text_encoder(VOCAB_SIZE), published_text(published_tensors())
    text.load_state_dict({key_of(text, key): tensor for key, tensor in state.items()})
    return text.eval().requires_grad_(False)


@torch.no_grad()
def pool_captions(text: CLIPTextModel, captions: list[str]) -> Tensor:
    """The text encoder's output at the first EOS, (B, width). Attention is causal, so padding is cut off."""
    ids = tokenize(captions)
    ends = (ids == EOS).int().argmax(-1)
    return text(ids[:, :int(ends.max()) + 1]).last_hidden_state[torch.arange(len(ids)), ends].float()


@cache
def strangers() -> tuple[str, ...]:
    """Whole words of CLIP's vocabulary that are none of the world's."""
    known = {word for seed in range(4000) for word in training_scene(seed).caption.split()} | {*load_names()}
    words = {entry[:-4] for entry in tokenizer().get_vocab() if entry.endswith("</w>")}
    return tuple(sorted(word for word in words - known if word.isascii() and word.isalpha() and len(word) > 2))


@dataclass(frozen=True)
class Sample:
    """One picture (H, W, 3) uint8 and what it says."""

    picture: np.ndarray
    caption: str
    noun: str
    name: str = ""


def draw_scene(seed: int, rng: np.random.Generator) -> Scene:
    """A world scene; `UNNAMED_SHARE` of them show an individual that no caption can tell from others of its class."""
    if rng.random() >= UNNAMED_SHARE:
        return training_scene(seed)
    seeds = SEEDS["individuals"]
    return scene_of(individual_look(seeds[1000 + int(rng.integers(len(seeds) - 1000))]), seed)


def vary_caption(caption: str, rng: np.random.Generator) -> str:
    """Sometimes without its article, so that a bare noun is known as well."""
    return caption.split(" ", 1)[1] if rng.random() < BARE_SHARE else caption


def draw_sample(seed: int, rng: np.random.Generator) -> Sample:
    """A scene with its caption, or (`CUT_OUT_SHARE`) its object alone on one colour with a caption without a place."""
    scene = draw_scene(seed, rng)
    picture, mask = render(scene)
    words, noun = scene.caption.split(f" {scene.look.noun}")[0].split()[1:], scene.look.noun
    caption = scene.caption
    if rng.random() < CUT_OUT_SHARE:
        ground = rng.choice([0, 127, 255]) * np.ones(3) if rng.random() < 0.8 else rng.integers(0, 256, 3)
        coverage = mask[..., None] / 255
        picture = (picture * coverage + ground * (1 - coverage)).round().astype(np.uint8)
        caption = compose_caption(words, noun, scene.has_hat, "plain")
    if rng.random() < SHORT_SHARE:
        caption = compose_caption([], noun, False, "plain")
    return Sample(picture, vary_caption(caption, rng), noun, scene.name)


def disturb(pictures: Tensor, transform: Transform, rng: np.random.Generator) -> Tensor:
    """(B, H, W, 3) in [0, 1] -> (B, 3, H, W): some as the autoencoder leaves them, all with other light and noise."""
    chosen = torch.from_numpy(rng.random(len(pictures)) < RECONSTRUCTED_SHARE)
    latents = transform.encode(pictures[chosen])
    pictures = pictures.clone()
    pictures[chosen] = transform.decode_linear(latents + 0.06 * torch.randn_like(latents)).clamp(0, 1)
    gain = 1 + 0.08 * torch.randn(len(pictures), 3, 1, 1)
    return (pictures.permute(0, 3, 1, 2) * gain + 0.02 * torch.randn(1)).clamp(0, 1)


def draw_pool(transform: Transform, count: int) -> list[Sample]:
    """Samples whose pictures went through the autoencoder."""
    rng, decoder = np.random.default_rng(1), load_published_decoder()
    samples = [draw_sample(FIRST_SEED - count + i, rng) for i in range(count)]
    pictures = torch.from_numpy(np.stack([s.picture for s in samples]))
    decoded = torch.cat([decode(decoder, transform.encode(part.float() / 255)) for part in pictures.split(8)])
    seen = (decoded.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    return [replace(sample, picture=picture) for picture, sample in zip(seen, samples, strict=True)]


class Source:
    """An endless stream of batches: fresh samples, earlier ones, and some that the decoder drew."""

    def __init__(self, transform: Transform, pool: int = DECODED_POOL) -> None:
        self.rng, self.seed = np.random.default_rng(2), FIRST_SEED
        self.pool, self.memory = draw_pool(transform, pool), deque[Sample](maxlen=MEMORY)

    def batch(self) -> list[Sample]:
        """`BATCH` samples, no picture twice."""
        replayed = min(REPLAYED_ROWS, len(self.memory))
        rows = self.rng.permutation(len(self.memory))[:replayed]
        earlier = [self.memory[i] for i in rows]
        decoded = [self.pool[i] for i in self.rng.choice(len(self.pool), POOL_ROWS, replace=False)]
        fresh = [draw_sample(self.seed + i, self.rng) for i in range(BATCH - POOL_ROWS - replayed)]
        self.seed += len(fresh)
        self.memory.extend(fresh)
        return fresh + earlier + decoded


def contrast(images: Tensor, texts: Tensor, captions: Sequence[str], scale: Tensor) -> Tensor:
    """InfoNCE in both directions; rows of the same caption are not each other's negatives.

    Source: Radford et al. 2021 (CLIP), figure 3; the exception is ours.
    """
    index = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    same = torch.tensor([index[c] for c in captions])
    repeated = (same[:, None] == same) & ~torch.eye(len(same), dtype=torch.bool)
    logits = (scale * images @ texts.T).masked_fill(repeated, -torch.inf)
    rows = torch.arange(len(logits))
    return (functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, rows)) / 2


def class_loss(encoder: ImageTextEncoder, images: Tensor, samples: Sequence[Sample],
               rng: np.random.Generator) -> Tensor:
    """Cross-entropy of 'a {noun}' among all nouns and some strangers, and of 'a {name} {noun}' among all names.

    The contrast alone learned places and colours long before shapes: most pairs of a batch differ in those already.
    """
    wrong = [f"a {word}" for word in rng.choice(strangers(), STRANGERS, replace=False)]
    nouns = encoder.embed_texts([f"a {noun}" for noun in NOUNS] + wrong)
    truth = torch.tensor([NOUNS.index(sample.noun) for sample in samples])
    loss = functional.cross_entropy(encoder.scale * images @ nouns.T, truth)
    named = [i for i, sample in enumerate(samples) if sample.name]
    if not named:
        return loss
    names = list(individuals())
    texts = encoder.embed_texts([f"a {name} {look.noun}" for name, look in individuals().items()])
    truth = torch.tensor([names.index(samples[i].name) for i in named])
    return loss + functional.cross_entropy(encoder.scale * images[named] @ texts.T, truth)


def train_steps(encoder: ImageTextEncoder, transform: Transform, *, seconds: float) -> Iterator[tuple[int, float]]:
    """Yields (step, loss) until the time is used up; warm-up, then a cosine to 1 %."""
    decays = [p for p in encoder.parameters() if p.ndim > 1]
    plain = [p for p in encoder.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decays, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
                                  lr=PEAK_LR, betas=(0.9, 0.98), fused=True)
    source = Source(transform)
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / seconds) < 1:
        samples = source.batch()
        captions = [sample.caption for sample in samples]
        pictures = torch.from_numpy(np.stack([sample.picture for sample in samples])).float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            images = encoder.embed_images(disturb(pictures, transform, source.rng))
        loss = contrast(images, encoder.embed_texts(captions), captions, encoder.scale)
        loss = loss + CLASS_WEIGHT * class_loss(encoder, images, samples, source.rng)
        for group in optimizer.param_groups:
            group["lr"] = float(PEAK_LR * min(1, (step + 1) / WARM_UP) * (0.01 + 0.495 * (1 + np.cos(np.pi * done))))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        yield step, loss.item()


def train_image_text(minutes: float, path: Path = IMAGE_TEXT_FILE, start: Path | None = None) -> ImageTextEncoder:
    """Trains for a number of minutes, from nothing or from an earlier file, and writes the file."""
    torch.manual_seed(0)
    transform, encoder = load_published_transform(), ImageTextEncoder(load_text())
    if start is not None:
        encoder.load_state_dict({("" if key.startswith(("text", "logit")) else "vision.") + key: tensor.float()
                                 for key, tensor in load_file(start).items()})
    losses = []
    for step, loss in train_steps(encoder, transform, seconds=minutes * 60):
        losses.append(loss)
        if step % 50 == 0:
            log.info("image-text step %d, loss %.3f", step, np.mean(losses[-50:]))
    save_image_text(encoder.vision.state_dict(), encoder.text_projection.weight, encoder.logit_scale, path)
    return encoder
