"""What an auxiliary noun may be: any noun but the subject's own (Jin et al., ECCV 2024, 'Auxiliary Noun')."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from ..errors import require

# Everyday words for the same kind of thing. Not a thesaurus: the subjects that people personalize most.
SYNONYMS: tuple[frozenset[str], ...] = tuple(
    frozenset(group.split(", "))
    for group in (
        "dog, puppy, pup, doggy, hound, pooch, canine",
        "cat, kitten, kitty, feline",
        "horse, pony, foal, mare, stallion",
        "bird, birdie, fowl",
        "rabbit, bunny, hare",
        "duck, duckling, rubber duck",
        "bear, teddy, teddy bear",
        "car, automobile, auto, vehicle",
        "bike, bicycle, cycle",
        "boat, ship, vessel",
        "plane, airplane, aeroplane, aircraft",
        "toy, plaything",
        "plush, plushie, plushy, stuffed animal, stuffed toy, soft toy",
        "doll, figurine, figure, statuette",
        "backpack, rucksack, knapsack",
        "bag, handbag, purse, tote",
        "shoe, sneaker, trainer, boot",
        "glasses, sunglasses, spectacles, eyeglasses",
        "mug, cup",
        "pot, teapot, kettle",
        "vase, jar, urn",
        "can, tin",
        "clock, watch, timepiece",
        "lamp, light, lantern",
        "sofa, couch, settee",
        "chair, seat, armchair",
        "house, home, cottage",
        "person, human, individual",
        "man, guy, gentleman, male",
        "woman, lady, female",
        "child, kid",
        "boy, lad",
        "girl, lass",
        "painting, picture, artwork",
        "flower, blossom, bloom",
        "rock, stone, boulder",
    )
)

# Nouns that every text-to-image model knows well, the most common first.
PRESETS: Mapping[str, tuple[str, ...]] = {
    "animal": ("cat", "dog", "horse", "bird", "rabbit", "fish", "bear", "duck", "cow"),
    "person": ("man", "woman", "child"),
    "toy": ("robot", "doll", "ball", "kite", "balloon"),
    "vehicle": ("car", "bicycle", "boat", "train", "plane"),
    "clothing": ("hat", "boot", "coat", "shirt", "glove"),
    "bag": ("backpack", "suitcase", "basket", "bag"),
    "kitchenware": ("cup", "teapot", "vase", "bowl", "bottle", "can"),
    "furniture": ("chair", "table", "lamp", "sofa", "clock"),
    "food": ("apple", "cake", "mushroom", "bread", "banana"),
    "plant": ("flower", "tree", "mushroom", "cactus"),
    "building": ("house", "castle", "tower", "church"),
}
COMMON = ("cat", "dog", "car", "chair", "flower", "cup", "house", "man")
"""For a class noun of no known category, one noun of each of the commonest."""
LIKE_THE_CLASS, ANY = "like the class noun", "any"
CATEGORIES = (LIKE_THE_CLASS, ANY, *PRESETS)


def category_of(class_noun: str) -> str | None:
    """The preset category that holds a class noun or a synonym of it, or None."""
    noun = fold(class_noun)
    kin = {noun, *(member for group in SYNONYMS if _names_one_of(noun, group) for member in group)}
    for category, nouns in PRESETS.items():
        if any(_names_one_of(word, frozenset(nouns)) for word in kin if word):
            return category
    return None


def preset_nouns(class_noun: str, category: str) -> tuple[str, ...]:
    """Nouns that may stand in for the subject, the best first: never the class noun or a synonym of it.

    Nouns of the class' own category come first where that is asked for, since they occur in the same surroundings; then
    one of each common kind.

    Args:
        class_noun: the subject's.
        category: one of `CATEGORIES`.

    Source: Jin et al., ECCV 2024, 4.5 (preset common nouns).
    """
    require(category in CATEGORIES, "category", repr(category), f"one of {', '.join(CATEGORIES)}",
            f"Use '{LIKE_THE_CLASS}'.")
    own = category_of(class_noun) if category == LIKE_THE_CLASS else category
    nouns = (*PRESETS.get(own or ANY, ()), *(COMMON if category in (LIKE_THE_CLASS, ANY) else ()))
    return allowed_nouns(class_noun, nouns)


def allowed_nouns(class_noun: str, nouns: Sequence[str]) -> tuple[str, ...]:
    """The nouns that are neither empty, nor the class noun, nor akin to it; each once, in order."""
    distinct = dict.fromkeys(" ".join(noun.split()) for noun in nouns if noun.strip())
    return tuple(noun for noun in distinct
                 if fold(noun) != fold(class_noun) and auxiliary_noun_warning(class_noun, noun) is None)


def fold(noun: str) -> str:
    """The noun without differences of case, width and white space."""
    return " ".join(unicodedata.normalize("NFKC", noun).casefold().split())


def check_auxiliary_noun(class_noun: str, auxiliary_noun: str) -> None:
    """Refuse an auxiliary noun that is empty or the class noun itself.

    Raises:
        InputError: with what to choose instead.
    """
    fix = "Choose another kind of thing, one often seen in the prompt's surroundings, for example 'cat'."
    require(bool(fold(auxiliary_noun)), "auxiliary_noun", "an empty text", "a noun", fix)
    require(fold(auxiliary_noun) != fold(class_noun), "auxiliary_noun", repr(auxiliary_noun),
            f"a noun other than the class noun {class_noun!r}", fix)


def auxiliary_noun_warning(class_noun: str, auxiliary_noun: str) -> str | None:
    """Why this auxiliary noun is a weak choice, or None.

    The class noun itself carries the lost editability, so a word for the same thing helps little.
    """
    noun, auxiliary = fold(class_noun), fold(auxiliary_noun)
    advice = "DCI works best with a noun of another kind."
    if _singular(noun) == _singular(auxiliary):
        return f"The auxiliary noun {auxiliary_noun!r} is the class noun in another number. {advice}"
    shared = {_singular(word) for word in noun.split()} & {_singular(word) for word in auxiliary.split()}
    if shared:
        return f"The auxiliary noun {auxiliary_noun!r} shares {min(shared)!r} with {class_noun!r}. {advice}"
    if any(_names_one_of(noun, group) and _names_one_of(auxiliary, group) for group in SYNONYMS):
        return f"The auxiliary noun {auxiliary_noun!r} means much the same as {class_noun!r}. {advice}"
    return None


def _names_one_of(noun: str, group: frozenset[str]) -> bool:
    """Whether the noun or its last word ('sports car') is in the group, in any number."""
    return bool({_singular(noun), _singular(noun.split(" ")[-1])} & {_singular(member) for member in group})


def _singular(noun: str) -> str:
    """A noun without its plural ending, roughly: enough to compare two nouns."""
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("ches", "shes", "xes", "sses")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
