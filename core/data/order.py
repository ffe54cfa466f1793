"""In which order a run draws its photos, their views, captions and class images.

All randomness is counter-based: the draw of micro-step i depends on (seed, stream, i) alone, so a resumed run
needs no generator state, and looking at one stream never moves another.

Photos of one latent shape are a bucket, and a batch comes from one bucket. In as many micro-steps as there are photos
(counting repeats) every bucket has as many batches as photos, in a shuffled order; each bucket is walked through in an
endless sequence that visits all its photos in a new order every epoch. With one shape that is the whole order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from .batch import SubjectRows
from .examples import Example, TrainingData, View, generator_for
from .noise import NoiseSource


@dataclass(frozen=True)
class Exposure:
    """How often a run has seen each photo, and each image of each class noun's pool.

    Attributes:
        views: in how many views each photo can be seen.
    """

    photos: tuple[int, ...]
    class_images: Mapping[str, tuple[int, ...]]
    views: tuple[int, ...] = ()

    def __str__(self) -> str:
        count = len(self.photos)
        shown = f", in {_range(self.views)} views" if any(each > 1 for each in self.views) else ""
        photos = "Your photo" if count == 1 else f"Each of your {count} photos"
        pools = [f"each of {len(counts)} {noun} class images {_times(counts)}" if len(counts) > 1 else
                 f"one {noun} class image {_times(counts)}" for noun, counts in self.class_images.items()]
        return ", ".join([f"{photos} was used {_times(self.photos)}{shown}", *pools])


@dataclass(frozen=True)
class Draw:
    """One subject row.

    Attributes:
        visit: how many rows have shown this example before.
        class_noun: which of the example's nouns this visit takes.
        position: how many rows have taken that noun before.
    """

    example: int
    visit: int
    class_noun: str
    position: int


@dataclass(frozen=True)
class Bucket:
    """Photos of one shape.

    Attributes:
        stream: names its order.
        items: their example numbers, each as often as an epoch shows it.
    """

    stream: str
    items: tuple[int, ...]


def draw_subject_rows(data: TrainingData, source: NoiseSource, seed: int, micro_step: int, batch: int) -> SubjectRows:
    """The subject's rows of one micro-step, with noise and noise levels of their own."""
    draws = draw(data, seed, micro_step, batch)
    numbers = tuple(drawn.example for drawn in draws)
    examples = [data.examples[number] for number in numbers]
    shown = tuple(_view_number(seed, drawn, data.examples[drawn.example]) for drawn in draws)
    views = [example.views[number] for example, number in zip(examples, shown, strict=True)]
    latents = torch.stack([view.latents for view in views]).float()
    generator = generator_for(seed, "subject", micro_step)
    return SubjectRows(
        latents=latents,
        noise=source.noise(latents.shape, generator),
        index=source.levels(batch, generator),
        prompts=_captions(examples, seed, micro_step),
        examples=numbers,
        views=shown,
        class_nouns=tuple(drawn.class_noun for drawn in draws),
        class_images=_class_images(data, seed, draws),
        masks=_masks(views),
        concat=_concat(views, source, seed, micro_step),
        references=tuple(view.references for view in views) if any(view.references for view in views) else (),
    )


def draw_examples(data: TrainingData, seed: int, micro_step: int, batch: int) -> tuple[int, ...]:
    """The examples of one micro-step's subject rows."""
    return tuple(drawn.example for drawn in draw(data, seed, micro_step, batch))


def draw_class_images(data: TrainingData, seed: int, micro_step: int, batch: int) -> tuple[int, ...]:
    """For each subject row, which image of its noun's pool goes with it; empty where a noun has no pool."""
    return _class_images(data, seed, draw(data, seed, micro_step, batch))


def draw(data: TrainingData, seed: int, micro_step: int, batch: int) -> tuple[Draw, ...]:
    """One micro-step's subject rows, all of one bucket."""
    buckets = find_buckets(data)
    chosen, batches = _batches_before(buckets, seed, micro_step)
    seen = _visits(buckets, batches, seed, batch, len(data.examples))
    draws = []
    for row in range(batches[chosen] * batch, (batches[chosen] + 1) * batch):
        bucket = buckets[chosen]
        number = bucket.items[_shuffled(seed, bucket.stream, row, len(bucket.items))]
        nouns = data.examples[number].nouns
        noun = nouns[seen[number] % len(nouns)]
        draws.append(Draw(number, seen[number], noun, _rows_of(noun, data, seen)))
        seen[number] += 1
    return tuple(draws)


def exposure(data: TrainingData, seed: int, micro_steps: int, batch: int) -> Exposure:
    """How often each example and class image is seen in a run of so many micro-steps."""
    buckets = find_buckets(data)
    photos = _visits(buckets, _batches_before(buckets, seed, micro_steps)[1], seed, batch, len(data.examples))
    pools = {noun: _counts(seed, f"class images/{noun}", _rows_of(noun, data, photos), len(latents))
             for noun, latents in data.class_latents.items()}
    return Exposure(tuple(photos), pools, tuple(len(example.views) for example in data.examples))


def find_buckets(data: TrainingData) -> tuple[Bucket, ...]:
    """The data's buckets, in order of their first photos."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, example in enumerate(data.examples):
        by_shape.setdefault(tuple(example.latents.shape[1:]), []).extend([number] * example.repeats)
    single = len(by_shape) == 1
    return tuple(Bucket("photos" if single else f"photos/{shape[0]}x{shape[1]}", tuple(items))
                 for shape, items in by_shape.items())


def _batches_before(buckets: Sequence[Bucket], seed: int, micro_step: int) -> tuple[int, list[int]]:
    """Which bucket a micro-step takes, and how many batches each bucket has had before."""
    slots = [number for number, bucket in enumerate(buckets) for _ in bucket.items]
    if len(buckets) == 1:
        return 0, [micro_step]
    cycle, offset = divmod(micro_step, len(slots))
    order = _order(seed, "buckets", cycle, len(slots))
    earlier = Counter(slots[slot] for slot in order[:offset])
    return slots[order[offset]], [cycle * len(bucket.items) + earlier[number] for number, bucket in enumerate(buckets)]


def _visits(buckets: Sequence[Bucket], batches: Sequence[int], seed: int, batch: int, examples: int) -> list[int]:
    """How often each example has been seen after so many batches of each bucket."""
    seen = [0] * examples
    for bucket, count in zip(buckets, batches, strict=True):
        counts = _counts(seed, bucket.stream, count * batch, len(bucket.items))
        for item, times in zip(bucket.items, counts, strict=True):
            seen[item] += times
    return seen


def _rows_of(noun: str, data: TrainingData, seen: Sequence[int]) -> int:
    """How many rows have taken a noun, when each example has been seen so often and takes its nouns in turn."""
    return sum((times - turn + len(example.nouns) - 1) // len(example.nouns)
               for example, times in zip(data.examples, seen, strict=True)
               for turn, own in enumerate(example.nouns) if own == noun)


def _class_images(data: TrainingData, seed: int, draws: Sequence[Draw]) -> tuple[int, ...]:
    """A pool is walked through in a new order every epoch of its own, however the nouns are mixed, so that every image
    is used."""
    if not all(noun in data.class_latents for noun in data.nouns):
        return ()
    return tuple(_shuffled(seed, f"class images/{drawn.class_noun}", drawn.position,
                           len(data.class_latents[drawn.class_noun])) for drawn in draws)


def _view_number(seed: int, drawn: Draw, example: Example) -> int:
    return _shuffled(seed, f"views/{drawn.example}", drawn.visit, len(example.views)) if example.more_views else 0


def _captions(examples: Sequence[Example], seed: int, micro_step: int) -> tuple[str, ...]:
    """The captions of one micro-step, some of them dropped."""
    chance = torch.rand(len(examples), generator=generator_for(seed, "caption dropout", micro_step)).tolist()
    return tuple("" if value < example.caption_dropout else example.caption
                 for example, value in zip(examples, chance, strict=True))


def _masks(views: Sequence[View]) -> dict[int, torch.Tensor]:
    """The masks (N, 1, h, w) of the views, as grown as all of them have them."""
    common = [dilation for dilation in views[0].masks if all(dilation in view.masks for view in views)]
    return {dilation: torch.stack([view.masks[dilation].whole for view in views]).float() for dilation in common}


def _stacked(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present).float() if len(present) == len(tensors) else None


def _concat(views: Sequence[View], source: NoiseSource, seed: int, micro_step: int) -> torch.Tensor | None:
    clean = _stacked([view.concat for view in views])
    return None if clean is None else source.concat(clean, generator_for(seed, "concat", micro_step))


def _shuffled(seed: int, stream: str, position: int, count: int) -> int:
    """Entry `position` of an endless sequence that visits all `count` items in a new order every epoch."""
    epoch, offset = divmod(position, count)
    return _order(seed, stream, epoch, count)[offset]


def _counts(seed: int, stream: str, draws: int, count: int) -> tuple[int, ...]:
    """How often each of `count` items is among the first so many entries of that sequence."""
    epochs, rest = divmod(draws, count)
    once_more = set(_order(seed, stream, epochs, count)[:rest])
    return tuple(epochs + (item in once_more) for item in range(count))


@lru_cache(maxsize=64)
def _order(seed: int, stream: str, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=generator_for(seed, stream, epoch)).tolist())


def _times(counts: tuple[int, ...]) -> str:
    return "once" if set(counts) == {1} else f"{_range(counts)} times"


def _range(counts: tuple[int, ...]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
