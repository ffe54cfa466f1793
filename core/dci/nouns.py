"""What an auxiliary noun may be: any noun but the subject's own (Jin et al., ECCV 2024, 'Auxiliary Noun')."""

from __future__ import annotations

import unicodedata

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
