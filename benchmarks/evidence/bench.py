"""Who is personalized, and what is asked of them: subjects of the procedural world and 25 prompts with their truth.

Held-in subjects are for choosing settings; held-out ones for final figures alone. Both come from the world's range of
subjects that base training never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.subject.subject import Photo, Subject, fill
from ...pocket.places import EXCLUDED_COLOURS
from ...pocket.subjects import CONTEXTS, HELD_IN, HELD_OUT, PHRASES, class_noun, subject_photos

assert not set(HELD_IN) & set(HELD_OUT)
PHOTOS = 5
IDENTIFIER = "sks"
COLOURS = ("red", "white", "green", "yellow", "blue")


@dataclass(frozen=True)
class Prompt:
    """A template with {V} and {noun}, and what a picture of it must show.

    Attributes:
        kind: DreamBooth's word for what is tried.
        context: the world's name of the place; None where none is asked for.
        colour: the colour that is asked for, or None.
    """

    template: str
    kind: str
    context: str | None = None
    colour: str | None = None

    def text(self, identifier: str, noun: str) -> str:
        return fill(self.template, identifier, noun)

    @property
    def asks_hat(self) -> bool:
        """The world's one accessory."""
        return self.kind == "accessory"


PLACES = tuple(context for context in CONTEXTS if PHRASES[context])
PROMPTS: tuple[Prompt, ...] = (
    *(Prompt(f"a {{V}} {{noun}} {PHRASES[place]}", "recontextualization", place) for place in PLACES),
    *(Prompt(f"a {{V}} {{noun}} wearing a hat {PHRASES[place]}", "accessory", place) for place in PLACES[::2]),
    *(Prompt(f"a {colour} {{V}} {{noun}}", "property", None, colour) for colour in COLOURS),
    *(Prompt(f"a {colour} {{V}} {{noun}} {PHRASES[place]}", "property in a place", place, colour)
      for colour, place in zip(COLOURS, PLACES[1::2], strict=True)),
)
"""DreamBooth's kinds, in the words that the world has; it has no expressions, viewpoints or styles."""
assert len(PROMPTS) == 25
assert not any(prompt.context and prompt.colour in EXCLUDED_COLOURS[prompt.context] for prompt in PROMPTS)


@dataclass(frozen=True, eq=False)
class Case:
    """One subject as a user would bring it.

    Attributes:
        number: the world's number of the subject.
        subject: its photos with masks, identifier and class noun.
        contexts: the places of the photos.
        named: the noun behind the identifier in prompts: the subject's as it is trained, "" where it has none.
    """

    number: int
    subject: Subject
    contexts: tuple[str, ...]
    named: str

    @property
    def pictures(self) -> Tensor:
        """The photos, (N, 3, H, W) in 0..1."""
        return torch.stack([photo.pixels for photo in self.subject.photos]).movedim(-1, 1)


def case(number: int, photos: int = PHOTOS, identifier: str = IDENTIFIER, noun: str | None = None,
         caption: str | None = None) -> Case:
    """A subject of the world with so many photos.

    Args:
        number: which one, from `HELD_IN` or `HELD_OUT`.
        photos: how many photos.
        identifier: the word that is to mean it.
        noun: another class noun than its own, or nothing at all, for ablations.
        caption: of every photo, a template; None = 'a {V} {noun}', or 'a {V}' without a noun.
    """
    taken = subject_photos(number, photos)
    shown = tuple(Photo(pixels=torch.from_numpy(photo.pixels.copy()).float() / 255,
                        mask=torch.from_numpy(photo.cover.copy()).float() / 255) for photo in taken)
    template = caption or ("a {V}" if noun == "" else "a {V} {noun}")
    mine = Subject(identifier=identifier, class_noun=noun or class_noun(number), photos=shown,
                   caption_template=template)
    named = class_noun(number) if noun is None else noun
    return Case(number, mine, tuple(photo.context for photo in taken), named)
