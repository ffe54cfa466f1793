"""Prompts in which a subject is tried out, by the kinds that the papers draw.

Source: DreamBooth (arXiv:2208.12242), 4.2 (recontextualization, art renditions, novel views, property modification),
its supplement (accessories, expressions), and its dataset's 25 evaluation prompts for objects and 25 for live subjects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import require
from ..wording import clean_prompt
from .subject import fill

_SHARED = (
    "in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric",
    "on top of a wooden floor", "with a city in the background", "with a mountain in the background",
    "with a blue house in the background", "on top of a purple rug in a forest",
)
_OBJECTS = (
    "with a wheat field in the background", "with a tree and autumn leaves in the background",
    "with the Eiffel Tower in the background", "floating on top of water", "floating in an ocean of milk",
    "on top of green grass with sunflowers around it", "on top of a mirror",
    "on top of the sidewalk in a crowded street", "on top of a dirt road", "on top of a white rug",
)
_ACCESSORIES = (
    "wearing a red hat", "wearing a santa hat", "wearing a rainbow scarf", "wearing a black top hat and a monocle",
    "in a chef outfit", "in a firefighter outfit", "in a police outfit", "wearing pink glasses",
    "wearing a yellow shirt", "in a purple wizard outfit",
)
_PROPERTIES = ("red", "purple", "shiny", "wet", "cube shaped")
_EXPRESSIONS = ("sad", "happy", "sleeping", "angry", "barking", "crying", "screaming", "laughing")
_VIEWS = ("from the top", "from the bottom", "from the side", "from the back", "from the front")
_PAINTERS = ("Vincent van Gogh", "Rembrandt", "Johannes Vermeer", "Michelangelo", "Leonardo da Vinci", "Hokusai")
_CROSSES = ("bear", "panda", "koala", "lion", "hippo", "tortoise")


def _places(phrases: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"a {{V}} {{noun}} {phrase}" for phrase in phrases)


def _properties(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"a {word} {{V}} {{noun}}" for word in words)


_PLACE = re.compile(r"\{V\d*\}")
_ANY_PLACE = re.compile(r"\{(V|noun)\d*\}")
KINDS: Mapping[str, tuple[str, ...]] = {
    "objects (DreamBooth's 25)": (*_places(_SHARED), *_places(_OBJECTS), *_properties(_PROPERTIES)),
    "live subjects (DreamBooth's 25)": (*_places(_SHARED), *_places(_ACCESSORIES), *_properties(_PROPERTIES)),
    "recontextualization": (*_places(_SHARED), *_places(_OBJECTS)),
    "accessories": _places(_ACCESSORIES),
    "properties": _properties(_PROPERTIES),
    "crosses": tuple(f"a cross of a {{V}} {{noun}} and a {animal}" for animal in _CROSSES),
    "expressions": _properties(_EXPRESSIONS),
    "viewpoints": tuple(f"a {{V}} {{noun}} seen {view}" for view in _VIEWS),
    "art renditions": (*(f"a painting of a {{V}} {{noun}} in the style of {name}" for name in _PAINTERS),
                       "a marble sculpture of a {V} {noun}", "a pencil sketch of a {V} {noun}"),
}
"""Templates by kind; {V} is the identifier, {noun} the class noun."""


def subject_prompts(kind: str, identifier: str, class_noun: str, count: int = 0) -> tuple[str, ...]:
    """The prompts of a kind, filled; an empty identifier gives the class's own prompts.

    Args:
        kind: a name in `KINDS`.
        identifier: V, or nothing.
        class_noun: the class noun.
        count: the first so many; 0 = all.

    Raises:
        InputError: for an unknown kind or an empty class noun.
    """
    require(kind in KINDS, "kind", repr(kind), "one of " + ", ".join(KINDS), "Choose one of them.")
    require(bool(class_noun.strip()), "class_noun", "an empty text", "what the subject is", "Write for example dog.")
    require(count >= 0, "count", count, "0 or more prompts", "Use 0 for all.")
    return fill_prompts(KINDS[kind][: count or None], identifier, class_noun)


def fill_prompts(templates: Sequence[str], identifier: str, class_noun: str) -> tuple[str, ...]:
    """Templates of the user's own, or of a kind, with identifier and class noun in their places.

    Raises:
        InputError: a template has no place for the subject, or leaves `embedding:` without a name.
    """
    for template in templates:
        require("{V}" in template or "{noun}" in template, "prompts", repr(template), "a text with {V} or {noun}",
                "Write for example 'a {V} {noun} in the snow'.")
    filled = (fill(template, identifier.strip(), class_noun.strip()) for template in templates)
    return tuple(clean_prompt(prompt, "prompts") for prompt in filled)


def check_places(prompt: str) -> None:
    """Raise `InputError` for a prompt without a place for the subject."""
    require(has_places(prompt), "prompt", repr(prompt), "a text with {V} where your subject stands",
            "Write for example 'a {V} {noun} in the snow'.")


def has_places(prompt: str) -> bool:
    """Whether a prompt has a place of a subject's word: {V}, or {V1}, {V2} of several."""
    return bool(_PLACE.search(prompt))


def fill_subjects(prompt: str, identifiers: Sequence[str], class_nouns: Sequence[str]) -> str:
    """A prompt in which {V} and {noun}, the same as {V1} and {noun1}, are the first subject, {V2} and {noun2} the
    second.

    Raises:
        InputError: there is no {V}, a place of more subjects than there are, or `embedding:` without a name.
    """
    check_places(prompt)
    text = prompt.replace("{V}", "{V1}").replace("{noun}", "{noun1}")
    for number, identifier in enumerate(identifiers, start=1):
        noun = class_nouns[number - 1] if number <= len(class_nouns) else ""
        own = text.replace(f"{{V{number}}}", "{V}").replace(f"{{noun{number}}}", "{noun}")
        text = fill(own, identifier.strip(), noun.strip())
    left = _ANY_PLACE.search(text)
    require(left is None, "prompt", left[0] if left else "", f"places of {len(identifiers)} subjects at most",
            "Write {V} and {noun}; of several subjects {V1} {noun1}, {V2} {noun2}.")
    return clean_prompt(text, "prompt")
