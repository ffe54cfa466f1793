"""What is personalized: photos of a subject, its identifier and its class noun (DreamBooth, arXiv:2208.12242, 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .errors import require

CAPTION_TEMPLATE = "a {V} {noun}"
CLASS_TEMPLATE = "a {noun}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """One photo.

    Attributes:
        pixels: (H, W, 3), values 0..1.
        mask: (H, W), values 0..1, 1 = subject; None where the user gave none.
    """

    pixels: Tensor
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        height, width = self.pixels.shape[:2]
        require(min(height, width) >= 8, "images", f"a photo of {width} x {height} pixels", "at least 8 x 8 pixels",
                "Load the photo itself, not a placeholder.")
        require(bool(self.pixels.isfinite().all()), "images", "a photo with NaN or infinite pixels", "finite pixels",
                "Look at the node that made this image; its output is broken.")
        if self.mask is not None:
            got = f"a mask of {self.mask.shape[-1]} x {self.mask.shape[-2]} for a photo of {width} x {height} pixels"
            require(self.mask.shape == (height, width), "masks", got, "a mask of the photo's own size",
                    "Connect the mask that belongs to this photo, or resize it first.")
            require(bool((self.mask > 0.5).any()), "masks", "an empty mask", "some white pixels on the subject",
                    "Paint the subject white, or leave the mask unconnected.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One subject: 'a {V} {noun}' captions every photo of it (DreamBooth, 3.1)."""

    identifier: str
    class_noun: str
    photos: tuple[Photo, ...]
    caption_template: str = CAPTION_TEMPLATE

    def __post_init__(self) -> None:
        require(bool(self.photos), "images", "no photo", "1 or more photos", "Connect an image to the node.")
        check_words(self.identifier, self.caption_template)

    @property
    def caption(self) -> str:
        """The caption of every photo, c in the papers."""
        return fill(self.caption_template, self.identifier, self.class_noun)

    @property
    def object_caption(self) -> str:
        """'a {V} {noun}', c_m of the object-specific loss (METHODS 3, eq. 4)."""
        return fill(CAPTION_TEMPLATE, self.identifier, self.class_noun)

    @property
    def class_caption(self) -> str:
        """'a {noun}', the prompt of the class images."""
        return fill(CLASS_TEMPLATE, "", self.class_noun)


def check_words(identifier: str, caption_template: str) -> None:
    """What can be said before there are photos.

    Raises:
        InputError: for an empty identifier, or a template without a place for it.
    """
    require(bool(identifier.strip()), "identifier", "an empty text", "a rare word such as the picker's",
            "Connect IdentifierPicker, or type a rare word.")
    require("{V}" in caption_template, "caption_template", repr(caption_template), "a text with {V}",
            f"Write for example {CAPTION_TEMPLATE!r}.")


def fill(template: str, identifier: str, class_noun: str) -> str:
    """Put identifier and class noun into a template, with single spaces where one is empty."""
    return " ".join(template.replace("{V}", identifier).replace("{noun}", class_noun).split())
