"""What do captions say? Templates, articles, adjectives, relations, places, styles, commas and full stops.

A caption never says what is not so; it may leave out colour, pattern, size, accessory, place and (rarely) relation.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from .places import PHRASES
from .placing import RELATIONS

if TYPE_CHECKING:
    from .scenes import Scene, Thing

PHOTO_PREFIXES: Final[dict[str, float]] = {
    "": 0.6, "a photo of": 0.2, "the photo of": 0.02, "a picture of": 0.05, "an image of": 0.03,
    "a good photo of": 0.02, "a nice photo of": 0.01, "a rendering of": 0.02, "a close-up photo of": 0.01,
    "a cropped photo of": 0.02, "a depiction of": 0.01, "this is": 0.01,
}
"""What stands before the things in a caption of a picture in no style. The adjectives mean nothing here: prompts that
users copy should not meet words that were never trained."""
STYLE_PREFIXES: Final[dict[str, tuple[str, ...]]] = {
    "pencil": ("a pencil drawing of", "a pencil sketch of", "a drawing of"),
    "mosaic": ("a mosaic of",),
    "silhouette": ("a silhouette of", "the silhouette of"),
    "pixel art": ("pixel art of",),
    "watercolour": ("a watercolour painting of", "a watercolor painting of", "a painting of"),
}
STYLE_SUFFIXES: Final[dict[str, str]] = {
    "pencil": "pencil drawing", "mosaic": "mosaic style", "silhouette": "silhouette", "pixel art": "pixel art",
    "watercolour": "watercolor painting",
}
ACCESSORY_PHRASES: Final[dict[str, str]] = {
    "hat": "wearing a {} hat", "crown": "wearing a {} crown", "scarf": "wearing a {} scarf", "flag": "with a {} flag",
}
PLURALS: Final[dict[str, str]] = {"fish": "fish"}
NUMERALS: Final = {2: "two", 3: "three"}
NEUTRAL: Final = ("nice", "cool", "good", "beautiful")
COLOURLESS: Final = ("pencil", "silhouette")

ARTICLES: Final = (("a", 0.86), ("the", 0.1), ("my", 0.02), ("one", 0.02))
TELL_CONTEXT, TELL_COLOUR, TELL_PATTERN, TELL_SIZE, TELL_ACCESSORY = 11 / 12, 0.8, 0.9, 0.6, 0.95


def caption_of(scene: Scene, rng: random.Random, is_short: bool = False) -> str:
    """The caption of a scene; `is_short` gives 'a {name} {noun} {usual phrase of the place}' and no more."""
    if is_short:
        thing = scene.things[0]
        return " ".join(filter(None, [_article("a", thing.name or thing.look.noun), thing.name, thing.look.noun,
                                      PHRASES[scene.context][0]]))
    prefix, suffix = _style_words(scene.style, rng)
    text = " ".join(filter(None, [prefix, things_phrase(scene, rng)]))
    phrase = rng.choice(PHRASES[scene.context]) if rng.random() < TELL_CONTEXT else ""
    if phrase:
        text += (", " if rng.random() < 0.06 else " ") + phrase
    text += f", {suffix}" if suffix else ""
    return text + ("." if rng.random() < 0.12 else "")


def things_phrase(scene: Scene, rng: random.Random) -> str:
    """The things and what they are to each other."""
    if scene.relation == "alike":
        return _alike(scene, rng)
    article = rng.choices(*zip(*ARTICLES, strict=True))[0]
    phrases = [noun_phrase(thing, scene.style, article, rng) for thing in scene.things]
    if len(phrases) == 2:
        is_vague = scene.relation in ("next to", "left of", "right of") and rng.random() < 0.15
        return f"{phrases[0]} {'and' if is_vague else RELATIONS[scene.relation]} {phrases[1]}"
    return phrases[0] if len(phrases) == 1 else f"{phrases[0]}, {phrases[1]} and {phrases[2]}"


def noun_phrase(thing: Thing, style: str, article: str, rng: random.Random) -> str:
    """'a large striped red dog wearing a blue hat', 'a {name} dog'."""
    words = [NEUTRAL[rng.randrange(len(NEUTRAL))]] if rng.random() < 0.03 else []
    words += [thing.size] if thing.size and rng.random() < TELL_SIZE else []
    words += [thing.name] if thing.name else adjectives(thing, style, rng)
    words.append(thing.look.noun)
    tail = accessory_phrase(thing, style, rng)
    return " ".join([_article(article, words[0]), *words, *([tail] if tail else [])])


def adjectives(thing: Thing, style: str, rng: random.Random) -> list[str]:
    """Pattern and colour, each sometimes left out, and never where a style hides them."""
    look = thing.look
    words = []
    if look.pattern != "plain" and style != "silhouette" and rng.random() < TELL_PATTERN:
        words.append(look.pattern)
    if style not in COLOURLESS and rng.random() < TELL_COLOUR:
        words.append(look.colour)
    return words


def accessory_phrase(thing: Thing, style: str, rng: random.Random) -> str:
    """'wearing a blue hat', the colour sometimes left out."""
    if not thing.accessory or rng.random() >= TELL_ACCESSORY:
        return ""
    is_told = style not in COLOURLESS and thing.accessory != "crown" and rng.random() < 0.6
    colour = thing.accessory_colour if is_told else ""
    text = ACCESSORY_PHRASES[thing.accessory].format(colour).replace("  ", " ")
    return text.replace(" a orange", " an orange")


def plural(noun: str) -> str:
    """The plural of a noun of the world."""
    return PLURALS.get(noun, f"{noun}s")


def _alike(scene: Scene, rng: random.Random) -> str:
    looks = [thing.look for thing in scene.things]
    is_one_colour = len({(look.colour, look.pattern) for look in looks}) == 1
    words = adjectives(scene.things[0], scene.style, rng) if is_one_colour else []
    return " ".join([NUMERALS[len(looks)], *words, plural(looks[0].noun)])


def _style_words(style: str, rng: random.Random) -> tuple[str, str]:
    """What stands before and after the things."""
    if style == "photo":
        return rng.choices(list(PHOTO_PREFIXES), list(PHOTO_PREFIXES.values()))[0], ""
    if rng.random() < 0.2:
        return "", STYLE_SUFFIXES[style]
    return rng.choice(STYLE_PREFIXES[style]), ""


def _article(article: str, word: str) -> str:
    return "an" if article == "a" and word in ("orange",) else article
