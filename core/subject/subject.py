"""What is personalized: photos of a subject, its identifier and its class noun (DreamBooth, arXiv:2208.12242, 3.1);
or one photo of several objects, each with its own (Lu, Xie, Guo 2024, 3.5)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..data.examples import ObjectName
from ..data.options import DataOptions
from ..errors import require
from ..wording import clean_prompts, fold, has_word, word_pattern

CAPTION_TEMPLATE = "a {V} {noun}"
CLASS_TEMPLATE = "a {noun}"
SCENE_TEMPLATE = "{objects}"
MOST_OBJECTS = 8
_BEFORE = re.compile(r"(?:(?<=\\\()|(?<=[^\s(]))(?=\{V\})")
_BEHIND = re.compile(r"(?<=\{V\})(?!,?(?:\s|$)|\)|:\s*[+-]?[\d.]+\s*\))")
SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """One photo.

    Attributes:
        pixels: (H, W, 3), values 0..1.
        mask: (H, W), values 0..1, 1 = subject (any object); None where the user gave none.
        caption: a template for this photo alone; None = the subject's.
        object_masks: (H, W) for each of several objects.
        references: pictures of any size that an edit model is shown with this photo, which is what it is to make of
            them.
    """

    pixels: Tensor
    mask: Tensor | None = None
    caption: str | None = None
    object_masks: tuple[Tensor, ...] = ()
    references: tuple[Photo, ...] = ()

    def __post_init__(self) -> None:
        height, width = self.pixels.shape[:2]
        require(min(height, width) >= 8, "images", f"a photo of {width} x {height} pixels", "at least 8 x 8 pixels",
                "Load the photo itself, not a placeholder.")
        require(bool(self.pixels.isfinite().all()), "images", "a photo with NaN or infinite pixels", "finite pixels",
                "Look at the node that made this image; its output is broken.")
        for mask in (*(() if self.mask is None else (self.mask,)), *self.object_masks):
            got = f"a mask of {mask.shape[-1]} x {mask.shape[-2]} for a photo of {width} x {height} pixels"
            require(mask.shape == (height, width), "masks", got, "a mask of the photo's own size",
                    "Connect the mask that belongs to this photo, or resize it first.")
            require(bool((mask > 0.5).any()), "masks", "an empty mask", "some white pixels on the subject",
                    "Paint the subject white, or leave the mask unconnected.")

    @cached_property
    def digest(self) -> str:
        """A digest of pixels, masks and references."""
        digest = hashlib.blake2b(digest_size=20)
        for tensor in (self.pixels, self.mask, *self.object_masks):
            digest.update(b"none" if tensor is None else str(tuple(tensor.shape)).encode() + float_bytes(tensor))
        for reference in self.references:
            digest.update(f"reference {reference.digest}".encode())
        return digest.hexdigest()

    @cached_property
    def pixels_digest(self) -> str:
        """A digest of the pixels alone."""
        return hashlib.blake2b(float_bytes(self.pixels), digest_size=20).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One subject: 'a {V} {noun}' captions every photo of it (DreamBooth, 3.1); or one photo of several objects.

    Attributes:
        objects: the names of several objects in each photo; the first one's is the subject's own. `make_scene` makes
            such a subject.
    """

    identifier: str
    class_noun: str
    photos: tuple[Photo, ...]
    caption_template: str = CAPTION_TEMPLATE
    data: DataOptions = field(default_factory=DataOptions)
    objects: tuple[ObjectName, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.photos), "images", "no photo", "1 or more photos", "Give one or more photos of the subject.")
        check_name(self.identifier, self.caption_template if not self.objects else CAPTION_TEMPLATE, self.class_noun)
        for number, photo in enumerate(self.photos, start=1):
            self._check_caption(number, photo)

    def _check_caption(self, number: int, photo: Photo) -> None:
        if photo.caption is None and not self.objects:
            return
        caption = self.caption_of(photo)
        for identifier, _ in self.names:
            require(has_word(caption, identifier), "captions",
                    f"{caption!r} for photo {number}, without {identifier!r}", "the identifier in every caption",
                    "Write {objects}." if self.objects else "Write {V} where the identifier belongs.")

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Identifier and class noun of everything that is personalized here."""
        if self.objects:
            return tuple((one.identifier, one.class_noun) for one in self.objects)
        return ((self.identifier, self.class_noun),)

    def caption_of(self, photo: Photo) -> str:
        """A photo's own caption or the subject's, with identifiers and nouns in place."""
        template = self.caption_template if photo.caption is None else photo.caption
        objects = name_objects(self.objects or self.name_as_object)
        return fill(template.replace("{objects}", objects), self.identifier, self.class_noun)

    @property
    def name_as_object(self) -> tuple[ObjectName, ...]:
        return (make_object_name(self.identifier, self.class_noun),)

    @property
    def caption(self) -> str:
        """The caption of every photo that has none of its own, c in the papers."""
        objects = name_objects(self.objects or self.name_as_object)
        return fill(self.caption_template.replace("{objects}", objects), self.identifier, self.class_noun)

    @property
    def object_caption(self) -> str:
        """'a {V} {noun}', c_m of the object-specific loss (METHODS 3, eq. 4)."""
        return fill(CAPTION_TEMPLATE, self.identifier, self.class_noun)

    @property
    def class_caption(self) -> str:
        """'a {noun}', the prompt of the class images."""
        return fill(CLASS_TEMPLATE, "", self.class_noun)


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneObject:
    """One of several objects in a photo.

    Attributes:
        mask: (H, W), values 0..1, 1 = this object.
    """

    identifier: str
    class_noun: str
    mask: Tensor

    def __post_init__(self) -> None:
        check_name(self.identifier, CAPTION_TEMPLATE, self.class_noun)


def make_scene(pixels: Tensor, objects: Sequence[SceneObject], caption_template: str = SCENE_TEMPLATE,
               data: DataOptions | None = None) -> Subject:
    """One photo (H, W, 3) of several objects as a subject whose caption names them all.

    Raises:
        InputError: no object or too many, two of one identifier, or a mask that does not fit the photo.
    """
    require(1 <= len(objects) <= MOST_OBJECTS, "objects", f"{len(objects)} objects", f"1 to {MOST_OBJECTS}",
            "Give one mask for each object.")
    names = [one.identifier.strip() for one in objects]
    for name in names:
        alike = [other for other in names if fold(other) == fold(name)]
        require(len(alike) == 1, "identifier", f"{' and '.join(map(repr, dict.fromkeys(alike)))} for two objects",
                "a word of its own for each object", "Pick another identifier for one of them; case does not count.")
    masks = tuple(one.mask for one in objects)
    for mask in masks:
        Photo(pixels=pixels, mask=mask)  # sizes, before they are put together
    photo = Photo(pixels=pixels, mask=torch.stack(masks).amax(0), object_masks=masks)
    named = tuple(make_object_name(name, one.class_noun.strip()) for name, one in zip(names, objects, strict=True))
    return Subject(identifier=names[0], class_noun=named[0].class_noun, photos=(photo,), objects=named,
                   caption_template=caption_template, data=data or DataOptions())


def make_object_name(identifier: str, class_noun: str) -> ObjectName:
    """An object's name, with 'a {V} {noun}' for its prompt."""
    return ObjectName(identifier=identifier, class_noun=class_noun,
                       caption=fill(CAPTION_TEMPLATE, identifier, class_noun))


def name_objects(objects: Sequence[ObjectName]) -> str:
    """'a sks dog, a tqz cat and a wrs car', the global prompt of eq. 5."""
    *others, last = [one.caption for one in objects]
    return f"{', '.join(others)} and {last}" if others else last


def warnings_about_data(subject: Subject) -> list[str]:
    """What will probably disappoint about a subject's data options."""
    sided = [caption for caption in map(subject.caption_of, subject.photos) if SIDES.search(caption)]
    if subject.data.flip and sided:
        return [f"flip is on, but a caption says left or right ({sided[0]!r}): mirrored views contradict it"]
    return []


def check_name(identifier: str, caption_template: str, class_noun: str = "") -> None:
    """What can be said before there are photos.

    Raises:
        InputError: for an empty identifier, a template without a place for it, or what `clean_prompt` refuses.
    """
    identifier, _, _ = clean_prompts(identifier=identifier, caption_template=caption_template, class_noun=class_noun)
    require(bool(identifier.strip()), "identifier", "an empty text", "a rare word such as the picker's",
            "Connect a picked identifier, or type a rare word.")
    require("{V}" in caption_template, "caption_template", repr(caption_template), "a text with {V}",
            f"Write for example {CAPTION_TEMPLATE!r}.")


def fill(template: str, identifier: str, class_noun: str) -> str:
    """Put identifier and class noun into a template, with single spaces where one is empty.

    An identifier `embedding:<name>` gets a space before and behind it where ComfyUI would not find the name else.
    """
    if identifier.startswith("embedding:"):
        template = _BEHIND.sub(" ", _BEFORE.sub(" ", template))
    return " ".join(template.replace("{V}", identifier).replace("{noun}", class_noun).split())


def without_identifiers(caption: str, subjects: Iterable[tuple[str, str]]) -> str:
    """The caption of any other of the class: the class noun in place of the identifier, or of the two together.

    Args:
        subjects: identifier and class noun of everything that is personalized in the photo.
    """
    nouns = {fold(identifier): noun for identifier, noun in subjects}

    def name(match: re.Match[str]) -> str:
        noun, behind = nouns[fold(match[1])], match[2]
        return noun if behind is None or fold(behind) == fold(noun) else f"{noun} {behind}"

    pattern = rf"({word_pattern(*nouns)})(?:\s+({word_pattern(*nouns.values())}))?"
    return re.sub(pattern, name, caption, flags=re.IGNORECASE)


def float_bytes(tensor: Tensor) -> bytes:
    """The tensor's values as float32 bytes."""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
