"""Which pictures exist, and what do their captions say? One, two or three things, a relation, a place, a style."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from .language import caption_of
from .looks import NAMED_COLOURS, SEEDS, Look, described_look, individuals, subject
from .places import CONTEXTS, EXCLUDED_COLOURS
from .placing import RELATIONS, Spot, place_one, place_three, place_two
from .world_paint import Colour
from .world_shapes import NOUNS, SHAPES

ACCESSORIES: Final = ("hat", "crown", "scarf", "flag")
STYLES: Final = ("photo", "pencil", "mosaic", "silhouette", "pixel art", "watercolour")
BRIGHT: Final = ("plain", "snow", "beach", "wooden floor", "city", "kitchen", "desert")
"""Places against which a silhouette is seen."""
GREY_STYLES: Final = ("pencil", "silhouette")
"""Styles in which colours are not seen: captions do not name any."""
COARSE_STYLES: Final = ("mosaic", "pixel art")
APART: Final = ("and", "next to", "left of", "right of")
"""Relations in which neither thing hides the other; silhouettes and coarse styles know no other."""

COUNT_WEIGHTS: Final = (0.64, 0.29, 0.07)
STYLED, ACCESSORIZED, NAMED, ALIKE, PLAIN = 0.16, 0.22, 0.25, 0.2, 0.15
"""Shares: pictures in a style; things that wear something; things that are named individuals; pairs and triples of
one noun ('two red dogs'); pictures in the plain studio."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing of a picture, in its pose."""

    look: Look
    spot: Spot
    name: str = ""
    accessory: str = ""
    accessory_colour: str = ""
    size: str = ""
    """'small' or 'large' where the caption may say so."""
    jitter: Colour = (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture's whole truth. `things` are in the caption's order; later painting hides earlier (`depth_order`)."""

    things: tuple[Thing, ...]
    relation: str
    """One of RELATIONS for two things; '' for one or three; 'alike' for 'two dogs', 'three dogs'."""
    context: str
    style: str
    caption: str
    seed: int

    def depth_order(self) -> list[int]:
        """Indices of the things from the farthest to the nearest."""
        if self.relation == "on top of":
            return [1, 0]
        return sorted(range(len(self.things)), key=lambda i: self.things[i].spot.feet)


def training_scene(seed: int) -> Scene:
    """The scene of a seed."""
    rng = random.Random(seed)
    context = "plain" if rng.random() < PLAIN else rng.choice(CONTEXTS[1:])
    count = rng.choices((1, 2, 3), COUNT_WEIGHTS)[0]
    style = _style(rng, context, count)
    relation = _relation(rng, count, style)
    looks, names = _looks(rng, count, relation, context, style)
    things = _dressed(rng, looks, names, relation, context)
    return _told(rng, Scene(things=things, relation=relation, context=context, style=style, caption="", seed=seed))


def subject_scenes(number: int, count: int, noun: str | None = None, identifier: str = "",
                   split: str = "held_out_subjects") -> Iterator[Scene]:
    """`count` scenes of one subject for personalization, alone, in changing places and poses.

    Captions read 'a {identifier} {noun} {place}'.
    """
    look, rng = subject(number, noun, split), random.Random(SEEDS[split][number])
    contexts = possible_contexts([look])
    rng.shuffle(contexts)
    for i in range(count):
        seed, context = SEEDS[split][number * 100 + i], contexts[i % len(contexts)]
        thing = replace(_thing(look, identifier), spot=place_one(random.Random(seed), "", headroom(look, ""))[0])
        scene = Scene(things=(thing,), relation="", context=context, style="photo", caption="", seed=seed)
        yield replace(scene, caption=caption_of(scene, random.Random(seed), is_short=True))


def possible_contexts(looks: list[Look]) -> list[str]:
    """The places in which no colour of these looks vanishes."""
    colours = set().union(*(look.colours for look in looks))
    return [c for c in CONTEXTS if not colours & set(EXCLUDED_COLOURS[c])]


def headroom(look: Look, accessory: str) -> float:
    """How far a thing reaches above its middle, in its own units."""
    top = -SHAPES[look.noun](*look.numbers).top[1]
    return max(1.0, top + {"hat": 0.55, "crown": 0.45, "flag": 0.7}.get(accessory, 0.1),
               top + 0.55 if look.part in ("horn", "spikes") else 0)


def _style(rng: random.Random, context: str, count: int) -> str:
    if rng.random() >= STYLED:
        return "photo"
    return rng.choice([s for s in STYLES[1:] if not (s == "silhouette" and context not in BRIGHT)
                       and not (s in COARSE_STYLES and count == 3)])


def _relation(rng: random.Random, count: int, style: str) -> str:
    if count > 1 and rng.random() < ALIKE:
        return "alike"
    possible = APART if style in ("silhouette", *COARSE_STYLES) else tuple(RELATIONS)
    return rng.choice(possible) if count == 2 else ""


def _looks(rng: random.Random, count: int, relation: str, context: str,
           style: str) -> tuple[list[Look], list[str]]:
    """Looks that are seen in the place, of different nouns (or of one, for 'alike') and different named colours."""
    nouns = [rng.choice(NOUNS)] * count if relation == "alike" else rng.sample(NOUNS, count)
    looks: list[Look] = []
    names: list[str] = []
    for noun in nouns:
        is_named = relation != "alike" and style != "silhouette" and rng.random() < NAMED
        name = _visible_individual(rng, noun, context) if is_named else ""
        taken = set().union(*(look.colours for look in looks)) if looks else set()
        forbidden = set(EXCLUDED_COLOURS[context]) | (taken if relation != "alike" else set())
        looks.append(individuals()[name] if name else described_look(rng, noun, forbidden))
        names.append(name)
    if relation == "alike" and rng.random() < 0.7:  # 'two red dogs': one colour and pattern, shapes of their own
        looks = [replace(look, colour=looks[0].colour, pattern=looks[0].pattern) for look in looks]
    return looks, names


def _visible_individual(rng: random.Random, noun: str, context: str) -> str:
    """A named individual of the noun that is seen in the place."""
    hidden = set(EXCLUDED_COLOURS[context])
    seen = [name for name in _names_by_noun(noun) if not individuals()[name].colours & hidden]
    return rng.choice(seen)


def _names_by_noun(noun: str) -> list[str]:
    if not _NAMES:
        for name, look in individuals().items():
            _NAMES.setdefault(look.noun, []).append(name)
    return _NAMES[noun]


_NAMES: dict[str, list[str]] = {}


def _dressed(rng: random.Random, looks: list[Look], names: list[str], relation: str,
             context: str) -> tuple[Thing, ...]:
    """The things with accessories, sizes and spots."""
    things = []
    for look, name in zip(looks, names, strict=True):
        thing = _thing(look, name, tuple(rng.randint(-9, 9) for _ in range(3)))
        can_wear = relation not in ("alike", "on top of") and rng.random() < ACCESSORIZED / len(looks) ** 0.5
        things.append(_wearing(rng, thing, context) if can_wear else thing)
    if len(things) == 1:
        size = rng.choices(("", "small", "large"), (0.6, 0.2, 0.2))[0]
        spots = place_one(rng, size, headroom(looks[0], things[0].accessory))
        return (replace(things[0], spot=spots[0], size=size),)
    spots = place_two(rng, relation, SHAPES[looks[1].noun](*looks[1].numbers).top) if len(things) == 2 \
        else place_three(rng)
    return tuple(replace(thing, spot=spot) for thing, spot in zip(things, spots, strict=True))


def _thing(look: Look, name: str, jitter: Colour = (0, 0, 0)) -> Thing:
    return Thing(look=look, spot=Spot(x=0.5, y=0.5, scale=0.3, angle=0.0), name=name, jitter=jitter)


def _wearing(rng: random.Random, thing: Thing, context: str) -> Thing:
    accessory = rng.choice(ACCESSORIES)
    hidden = thing.look.colours | set(EXCLUDED_COLOURS[context])
    colour = "yellow" if accessory == "crown" else rng.choice([c for c in NAMED_COLOURS if c not in hidden])
    return replace(thing, accessory=accessory, accessory_colour=colour)


def _told(rng: random.Random, scene: Scene) -> Scene:
    return replace(scene, caption=caption_of(scene, rng))
