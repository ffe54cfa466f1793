"""What a run trains on (cached latents, masks, captions, class images), and in which order it is drawn.

All randomness is counter-based: the draw of micro-step i depends on (seed, stream, i) alone, so a resumed run
needs no generator state, and looking at one stream never moves another.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Generator, Tensor

from .errors import require
from .noise_source import NoiseSource
from .rows import Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One photo, ready to train on.

    Attributes:
        latents: (C, h, w), in the model's own latent space and scale.
        caption: the photo's prompt, c.
        object_caption: 'a {V} {noun}', c_m of the object-specific loss.
        class_noun: chooses the pool of class images.
        identifier: V, the word for the subject; empty where nobody asks for it.
        photo: number of the photo that it was made from, shared by its repeats and flips; None = a photo of its own.
        mask: (1, h, w) in 0..1, 1 = subject, or None.
        concat: (K, h, w), what the network reads beside the noisy latents, or None.
    """

    latents: Tensor
    caption: str
    object_caption: str
    class_noun: str
    identifier: str = ""
    photo: int | None = None
    mask: Tensor | None = None
    concat: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """All examples, and one pool of class images (n, C, h, w) with its prompt per class noun.

    Attributes:
        base_prompts: what the network without anything learned reads in place of a caption whose words only this run
            knows.
    """

    examples: tuple[Example, ...]
    class_latents: Mapping[str, Tensor] = field(default_factory=dict)
    class_prompts: Mapping[str, str] = field(default_factory=dict)
    base_prompts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(bool(self.examples), "images", "no photo", "1 or more photos",
                "Connect an image to SubjectPhotos.")
        shape = tuple(self.examples[0].latents.shape)
        for example in self.examples:
            got = tuple(example.latents.shape)
            require(got == shape, "images", f"latents of {got} beside {shape}", "one size for all photos",
                    "Encode all photos at the training resolution.")
            require(bool(example.latents.isfinite().all()), "images", "latents with NaN or infinite values",
                    "finite latents", "Run the VAE in fp32 or bf16.")
        for noun, latents in self.class_latents.items():
            require(tuple(latents.shape[1:]) == shape, "class images",
                    f"latents of {tuple(latents.shape[1:])} for {noun!r}, photos have {shape}",
                    "class images of the training resolution", "Generate them at the trainer's resolution.")
            require(noun in self.class_prompts, "class images", f"no prompt for {noun!r}",
                    "the prompt of each pool", "Generate the class images again.")

    def prompts(self) -> tuple[str, ...]:
        """Every text the run can encode, each once, always in the same order."""
        subject = (text for example in self.examples for text in (example.caption, example.object_caption))
        return tuple(dict.fromkeys([*subject, *self.class_prompts.values()]))


@dataclass(frozen=True)
class Exposure:
    """How often a run has seen each photo, and each image of each class noun's pool."""

    photos: tuple[int, ...]
    class_images: Mapping[str, tuple[int, ...]]

    def __str__(self) -> str:
        pools = [f"{noun!r} class images: {_times(counts)}" for noun, counts in self.class_images.items()]
        return "; ".join([f"photos: {_times(self.photos)}", *pools])


def generator_for(seed: int, stream: str, counter: int) -> Generator:
    """A CPU generator for draw number `counter` of a named stream."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{counter}".encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw_subject_rows(data: TrainingData, source: NoiseSource, seed: int, micro_step: int, batch: int) -> Rows:
    """The subject's rows of one micro-step, with noise and noise levels of their own."""
    numbers = draw_examples(data, seed, micro_step, batch)
    examples = [data.examples[number] for number in numbers]
    masks = [example.mask for example in examples if example.mask is not None]
    concats = [example.concat for example in examples if example.concat is not None]
    latents = torch.stack([example.latents for example in examples]).float()
    generator = generator_for(seed, "subject", micro_step)
    return Rows(
        latents=latents,
        noise=source.noise(latents.shape, generator),
        index=source.levels(batch, generator),
        prompts=tuple(example.caption for example in examples),
        examples=numbers,
        class_images=draw_class_images(data, seed, micro_step, batch),
        masks=torch.stack(masks).float() if len(masks) == batch else None,
        concat=source.concat(torch.stack(concats).float(), generator_for(seed, "concat", micro_step))
        if len(concats) == batch else None,
    )


def draw_examples(data: TrainingData, seed: int, micro_step: int, batch: int) -> tuple[int, ...]:
    """The examples of one micro-step's subject rows."""
    return tuple(example for example, _ in _draws(data, seed, micro_step, batch))


def draw_class_images(data: TrainingData, seed: int, micro_step: int, batch: int) -> tuple[int, ...] | None:
    """For each subject row, which image of its noun's pool goes with it; None where a noun has no pool.

    A pool is walked through in a new order every epoch of its own, however the nouns are mixed, so that every
    image is used.
    """
    if not all(example.class_noun in data.class_latents for example in data.examples):
        return None
    draws = _draws(data, seed, micro_step, batch)
    nouns = [data.examples[example].class_noun for example, _ in draws]
    return tuple(_shuffled(seed, f"class images/{noun}", position, len(data.class_latents[noun]))
                 for noun, (_, position) in zip(nouns, draws, strict=True))


def exposure(data: TrainingData, seed: int, micro_steps: int, batch: int) -> Exposure:
    """How often each example and class image is seen in a run of so many micro-steps."""
    photos = _counts(seed, "photos", micro_steps * batch, len(data.examples))
    rows: Counter[str] = Counter()
    for example, times in zip(data.examples, photos, strict=True):
        rows[example.class_noun] += times
    return Exposure(photos, {noun: _counts(seed, f"class images/{noun}", rows[noun], len(latents))
                             for noun, latents in data.class_latents.items()})


def _draws(data: TrainingData, seed: int, micro_step: int, batch: int) -> list[tuple[int, int]]:
    """For each subject row its example, and how many rows of the same noun the run has had before it."""
    nouns = [example.class_noun for example in data.examples]
    rows = []
    for row in range(micro_step * batch, (micro_step + 1) * batch):
        epoch, offset = divmod(row, len(nouns))
        order = _order(seed, "photos", epoch, len(nouns))
        example = order[offset]
        noun = nouns[example]
        earlier = epoch * nouns.count(noun) + sum(nouns[other] == noun for other in order[:offset])
        rows.append((example, earlier))
    return rows


def _shuffled(seed: int, stream: str, position: int, count: int) -> int:
    """Entry `position` of an endless sequence that visits all `count` items in a new order every epoch."""
    epoch, offset = divmod(position, count)
    return _order(seed, stream, epoch, count)[offset]


def _counts(seed: int, stream: str, draws: int, count: int) -> tuple[int, ...]:
    """How often each of `count` items is among the first so many entries of that sequence."""
    epochs, rest = divmod(draws, count)
    once_more = _order(seed, stream, epochs, count)[:rest]
    return tuple(epochs + (item in once_more) for item in range(count))


@lru_cache(maxsize=16)
def _order(seed: int, stream: str, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=generator_for(seed, stream, epoch)).tolist())


def _times(counts: tuple[int, ...]) -> str:
    low, high = min(counts), max(counts)
    return f"each of {len(counts)} seen {low if low == high else f'{low} to {high}'} times"
