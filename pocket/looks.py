"""Who can be in a picture? Looks that captions describe, named individuals, and subjects for personalization.

Everything is a function of an integer seed; the ranges are disjoint (`SEEDS`, checked at import).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Final

from .names import individual_names
from .world_paint import ALL_COLOURS, CAPTION_PATTERNS, INDIVIDUAL_PATTERNS, Colour, contrast_colour
from .world_shapes import NOUNS, ODD_PARTS

SEEDS: Final[dict[str, range]] = {
    "train": range(0, 10**9),
    "autoencoder": range(10**9, 11 * 10**8),
    "judge": range(11 * 10**8, 12 * 10**8),
    "image_text": range(13 * 10**8, 14 * 10**8),
    "upscaler": range(14 * 10**8, 15 * 10**8),
    "held_out_scenes": range(12 * 10**8, 12 * 10**8 + 10**6),
    "individuals": range(2 * 10**9, 2 * 10**9 + 10**6),
    "judge_subjects": range(21 * 10**8, 21 * 10**8 + 10**7),
    "held_in_subjects": range(3 * 10**9, 3 * 10**9 + 10**6),
    "held_out_subjects": range(31 * 10**8, 31 * 10**8 + 10**6),
}
"""Scenes of generator, autoencoder, judge, image-text encoder and upscaler; scenes for evaluation; named individuals;
individuals the judge learns from; subjects on which personalization is tuned (held in) and on which it is reported
(held out)."""
SUBJECT_RANGES: Final = ("individuals", "judge_subjects", "held_in_subjects", "held_out_subjects")

NAMED_COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black", "pink", "brown")
PALETTE: Final[dict[str, Colour]] = ALL_COLOURS
"""Teal, magenta, lime and sky occur on individuals only; no caption names them."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What stays the same between pictures of one instance."""

    noun: str
    numbers: tuple[float, float, float]
    colour: str
    second: str = ""
    """The other colour of an individual's pattern; empty where a caption can describe the look."""
    pattern: str = "plain"
    part: str = "none"
    part_colour: str = ""

    @property
    def is_individual(self) -> bool:
        return bool(self.second)

    @property
    def colours(self) -> set[str]:
        return {self.colour, self.second} - {""}


def described_look(rng: random.Random, noun: str, forbidden: set[str]) -> Look:
    """A look that captions can describe: one named colour that is not forbidden, a simple pattern, no odd part."""
    colour = rng.choice([c for c in NAMED_COLOURS if c not in forbidden])
    pattern = rng.choices(CAPTION_PATTERNS, (0.6, 0.2, 0.2))[0]
    if contrast_colour(colour) == PALETTE["black"] and "black" in forbidden:  # black stripes at night are gaps
        pattern = "plain"
    return Look(noun=noun, numbers=(rng.random(), rng.random(), rng.random()), colour=colour, pattern=pattern)


def individual_look(seed: int, noun: str | None = None) -> Look:
    """A look that captions cannot describe: two unrelated colours in a bold pattern, mostly a horn, wings or spikes.

    Named individuals and subjects for personalization come from this one distribution, by seeds of their own.
    """
    if not any(seed in SEEDS[name] for name in SUBJECT_RANGES):
        raise ValueError(f"seed: got {seed}, expected one of the ranges {', '.join(SUBJECT_RANGES)}")
    rng = random.Random(seed)
    numbers = (rng.random(), rng.random(), rng.random())
    colour, second, part_colour = rng.sample(list(PALETTE), 3)
    return Look(noun=noun or rng.choice(NOUNS), numbers=numbers, colour=colour, second=second,
                pattern=rng.choice(INDIVIDUAL_PATTERNS), part=rng.choices(ODD_PARTS, (0.1, 0.3, 0.3, 0.3))[0],
                part_colour=part_colour)


@cache
def individuals() -> dict[str, Look]:
    """The named individuals of base training: name -> look; every noun has the same number."""
    return {name: individual_look(SEEDS["individuals"][i], NOUNS[i % len(NOUNS)])
            for i, name in enumerate(individual_names())}


def subject(number: int, noun: str | None = None, split: str = "held_out_subjects") -> Look:
    """A subject for personalization; `split` is held_in_subjects or held_out_subjects.

    Args:
        noun: in place of its own class noun; which stays the same look where it is that.
    """
    own = individual_look(SEEDS[split][number])
    return own if noun in (None, own.noun) else individual_look(SEEDS[split][number], noun)


def assert_disjoint(ranges: dict[str, range]) -> None:
    """Raises ValueError where two seed ranges share a seed."""
    ordered = sorted(ranges.items(), key=lambda item: item[1].start)
    for (a, first), (b, later) in zip(ordered, ordered[1:], strict=False):
        if first.stop > later.start:
            raise ValueError(f"seed ranges {a!r} and {b!r} overlap: got {first} and {later}, expected disjoint ones")


assert_disjoint(SEEDS)
