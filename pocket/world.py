"""The procedural captioned world: which pictures exist, what do they say, and how is one drawn?

Everything is a function of an integer seed. Seeds come from disjoint ranges (`SEEDS`), so that training,
judging and personalization never share a scene or a subject.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from .config import SIZE
from .names import load_names
from .world_paint import (
    ALL_COLOURS,
    CAPTION_PATTERNS,
    COLOURS,
    INDIVIDUAL_PATTERNS,
    SUPERSAMPLING,
    Colour,
    Pose,
    accent_colour,
    contrast_colour,
    paint_pattern,
    shade,
)
from .world_scenes import BACKDROPS, CONTEXTS, EXCLUDED_COLOURS, PHRASES
from .world_shapes import NOUNS, ODD_PARTS, SHAPES, hat, odd_part

SEEDS: Final[dict[str, range]] = {
    "train": range(0, 10**9),
    "held_out_scenes": range(10**9, 10**9 + 10**6),
    "individuals": range(2 * 10**9, 2 * 10**9 + 10**6),
    "held_out_subjects": range(3 * 10**9, 3 * 10**9 + 10**6),
}
"""Disjoint seed ranges: scenes of base training, scenes for evaluation, named individuals, subjects to personalize."""

HAT_COLOUR: Final[Colour] = (225, 45, 150)
ROLE_COLOURS: Final[dict[str, Colour]] = {
    "dark": (24, 22, 26), "light": (250, 246, 214), "glass": (186, 222, 240), "cream": (244, 226, 196),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one instance looks, whatever its pose: what stays the same between pictures of an individual."""

    noun: str
    numbers: tuple[float, float, float]
    colour: str
    second: str
    pattern: str
    part: str
    part_colour: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture with its truth: who, where, in which pose, and the caption."""

    look: Look
    context: str
    has_hat: bool
    caption: str
    seed: int
    name: str = ""


def plain_look(rng: random.Random, context: str) -> Look:
    """A look that captions can describe: one named colour, a simple pattern, no odd part."""
    colour = rng.choice([c for c in COLOURS if c not in EXCLUDED_COLOURS[context]])
    pattern = rng.choices(CAPTION_PATTERNS, (0.6, 0.2, 0.2))[0]
    return Look(noun=rng.choice(NOUNS), numbers=(rng.random(), rng.random(), rng.random()), colour=colour,
                second="", pattern=pattern, part="none", part_colour="")


def individual_look(seed: int, noun: str | None = None) -> Look:
    """A look that captions cannot describe: two unrelated colours in a bold pattern, mostly an odd part."""
    if seed not in SEEDS["individuals"] and seed not in SEEDS["held_out_subjects"]:
        raise ValueError(f"seed: got {seed}, expected one of the ranges 'individuals' or 'held_out_subjects'")
    rng = random.Random(seed)
    numbers = (rng.random(), rng.random(), rng.random())
    colour, second, part_colour = rng.sample(list(ALL_COLOURS), 3)
    pattern, part = rng.choice(INDIVIDUAL_PATTERNS), rng.choices(ODD_PARTS, (0.1, 0.3, 0.3, 0.3))[0]
    return Look(noun=noun or rng.choice(NOUNS), numbers=numbers, colour=colour, second=second, pattern=pattern,
                part=part, part_colour=part_colour)


@cache
def individuals() -> dict[str, Look]:
    """The named individuals of base training: name -> look; nouns in turn, so that each has the same number."""
    return {name: individual_look(SEEDS["individuals"][i], NOUNS[i % len(NOUNS)])
            for i, name in enumerate(load_names())}


def compose_caption(words: list[str], noun: str, has_hat: bool, context: str) -> str:
    """'a {words} {noun} [wearing a hat] [phrase]'."""
    noun_phrase = " ".join([*words, noun])
    article = "an" if noun_phrase[0] in "aeiou" and noun_phrase.split()[0] in (*COLOURS, *NOUNS) else "a"
    tail = ["wearing a hat"] * has_hat + [PHRASES[context]] * (context != "plain")
    return " ".join([article, noun_phrase, *tail])


def possible_contexts(look: Look) -> list[str]:
    """The contexts in which neither of the look's colours vanishes."""
    colours = {look.colour, look.second}
    return [c for c in CONTEXTS if not colours & set(EXCLUDED_COLOURS[c])]


def describe(look: Look, rng: random.Random) -> list[str]:
    """Adjectives of a caption: pattern and colour, each sometimes left out."""
    pattern = [look.pattern] * (look.pattern != "plain" and rng.random() < 0.9)
    return pattern + [look.colour] * (rng.random() < 0.8)


def training_scene(seed: int) -> Scene:
    """A seed's scene: 20 % named individuals, else described objects; 1 caption in 12 hides the context."""
    rng = random.Random(seed)
    context = "plain" if rng.random() < 0.15 else rng.choice(CONTEXTS[1:])
    has_hat, told = rng.random() < 0.12, rng.random() > 1 / 12
    if rng.random() < 0.2:
        name = rng.choice(list(individuals()))
        look = individuals()[name]
        if context not in possible_contexts(look):
            context = rng.choice(possible_contexts(look))
        words = [name]
    else:
        name, look = "", plain_look(rng, context)
        words = describe(look, rng)
    caption = compose_caption(words, look.noun, has_hat, context if told else "plain")
    return Scene(look=look, context=context, has_hat=has_hat, caption=caption, seed=seed, name=name)


def subject(seed: int, noun: str | None = None) -> Look:
    """A held-out subject for personalization (`seed` counts from 0)."""
    return individual_look(SEEDS["held_out_subjects"][seed], noun)


def subject_scenes(seed: int, count: int, noun: str | None = None, identifier: str = "") -> Iterator[Scene]:
    """`count` scenes of one held-out subject in changing contexts and poses; render them for pictures and masks."""
    look = subject(seed, noun)
    contexts = possible_contexts(look)
    random.Random(seed).shuffle(contexts)
    for i in range(count):
        context = contexts[i % len(contexts)]
        caption = compose_caption([identifier] * bool(identifier), look.noun, False, context)
        yield Scene(look=look, context=context, has_hat=False, caption=caption,
                    seed=SEEDS["held_out_subjects"][seed * 100 + i])


def with_context(scene: Scene, context: str) -> Scene:
    """The same subject in another place."""
    return replace(scene, context=context)


def render(scene: Scene, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene.

    Returns:
        The picture, (size, size, 3) uint8, and the object's coverage (hat and odd parts included, shadow not),
        (size, size) uint8 with 255 where the object covers a whole pixel.
    """
    rng = random.Random(scene.seed ^ 0x5EED)
    full = size * SUPERSAMPLING
    picture = BACKDROPS[scene.context](full, rng)
    unit = full * rng.uniform(0.32, 0.37)
    pose = Pose(x=full * rng.uniform(0.45, 0.55), y=full * rng.uniform(0.57, 0.62), scale=unit,
                angle=rng.uniform(-0.08, 0.08))
    mask = draw_object(picture, pose, scene.look, scene.has_hat, jitter=tuple(rng.randint(-9, 9) for _ in range(3)))
    small = picture.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small), np.asarray(mask.resize((size, size), Image.Resampling.BOX))


def draw_object(picture: Image.Image, pose: Pose, look: Look, has_hat: bool, jitter: Colour) -> Image.Image:
    """Paints shadow and object onto `picture` and returns the object's mask (full coverage 255)."""
    shape = SHAPES[look.noun](*look.numbers)
    first = tuple(min(255, max(0, c + j)) for c, j in zip(ALL_COLOURS[look.colour], jitter, strict=True))
    second = ALL_COLOURS[look.second] if look.second else contrast_colour(look.colour)
    accent = shade(second, 0.8) if look.second else accent_colour(look.colour)
    roles = ROLE_COLOURS | {"accent": accent}
    canvas, mask = ImageDraw.Draw(picture, "RGBA"), Image.new("L", picture.size)
    cover = ImageDraw.Draw(mask)

    def paint(colour: Colour, outline: list[tuple[float, float]]) -> None:
        placed = pose.place(outline)
        canvas.polygon(placed, fill=(*colour, 255))
        cover.polygon(placed, fill=255)

    x, y = pose.x, pose.y + 0.9 * pose.scale
    canvas.ellipse([x - 0.9 * pose.scale, y - 0.08 * pose.scale, x + 0.9 * pose.scale, y + 0.12 * pose.scale],
                   fill=(0, 0, 0, 70))
    for outline in odd_part(look.part, shape):
        paint(ALL_COLOURS[look.part_colour], outline)
    for role, outline in shape.behind:
        paint(roles[role], outline)
    body = Image.new("L", picture.size)
    for outline in shape.body:
        ImageDraw.Draw(body).polygon(pose.place(outline), fill=255)
        cover.polygon(pose.place(outline), fill=255)
    picture.paste(paint_pattern(picture.width, pose, look.pattern, first, second), (0, 0), body)
    for role, outline in shape.front:
        paint(roles[role], outline)
    for outline in hat(shape) if has_hat else []:
        paint(HAT_COLOUR, outline)
    return mask


def assert_disjoint(ranges: dict[str, range]) -> None:
    """Raises ValueError where two seed ranges share a seed."""
    ordered = sorted(ranges.items(), key=lambda item: item[1].start)
    for (a, first), (b, later) in zip(ordered, ordered[1:], strict=False):
        if first.stop > later.start:
            raise ValueError(f"seed ranges {a!r} and {b!r} overlap: got {first} and {later}, expected disjoint ones")


assert_disjoint(SEEDS)
