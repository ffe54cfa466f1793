"""What will probably disappoint about photos, their masks and the size they are trained at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from ..data.crops import MAX_ASPECT
from ..data.options import DataOptions
from .subject import Photo, Subject

FLAT = 4 / 255
"""Largest difference between the pixels of a photo of one colour, in each channel."""
MOSTLY = 0.5
"""A crop that loses more of a photo than this fraction loses most of it."""
EDGE, EDGE_MARKED, MIDDLE_MARKED = 0.05, 0.6, 0.75
"""Background masks: how wide the edge is, as a fraction of the side; how much of it is marked at least; and how much of
the middle half at most, as a fraction of the edge's. Hand-made masks of subjects mark less than half of the edge."""
ENOUGH = 256
"""Rows or columns by which a photo is looked at first."""
SMALLEST, LARGEST = 0.6, 1.6
"""Resolutions that a family still knows, as fractions of those it was trained at."""


def warnings_about_photos(subject: Subject) -> list[str]:
    """Sentences on photos of one colour, crops that lose most of a photo, and masks of the background or of nothing."""
    photos = subject.photos
    flat = _numbers(is_one_colour(photo.pixels) for photo in photos)
    sizes = [(photo.pixels.shape[0], photo.pixels.shape[1]) for photo in photos]
    lost = _numbers(lost_to_crop(height, width, subject.data) > MOSTLY for height, width in sizes)
    background = _numbers(any(map(marks_the_background, _masks(photo))) for photo in photos)
    white = _numbers(any(map(is_white, _masks(photo))) for photo in photos)
    square = subject.data.shape == "square"
    said = []
    if flat:
        said.append(f"nothing can be learned from {flat}: all of one colour")
    if lost:
        said.append(f"the crop leaves less than half of {lost}: cut out the part that matters yourself"
                    + (", or choose buckets in the data options" if square else ""))
    if background:
        said.append(f"the mask marks the edge and not the middle, so probably the background, in {background}: white "
                    "is the subject. Load Image's mask of a cut-out is white where the picture is transparent; put "
                    "Invert Mask in between")
    if white:
        said.append(f"the mask is white all over in {white}: it leaves nothing out")
    return said


def warnings_about_batch(batch: int, photos: int) -> list[str]:
    """A sentence on a batch that holds photos twice."""
    if batch <= photos:
        return []
    return [f"a batch of {batch} holds some of the {photos} photos more than once, which costs memory and time and "
            f"teaches little: use {photos} or less"]


def warnings_about_resolution(resolution: int, trained_at: tuple[int, int] | None, family: str) -> list[str]:
    """A sentence on a resolution far from those, lowest and highest, that a family was trained at; None = unknown."""
    if trained_at is None or SMALLEST * trained_at[0] <= resolution <= LARGEST * trained_at[1]:
        return []
    low, high = trained_at
    known = f"{low}" if low == high else f"{low} to {high}"
    return [f"a resolution of {resolution} is far from the {known} pixels that {family} was trained at: it may learn "
            "distorted shapes"]


def is_one_colour(pixels: Tensor) -> bool:
    """Whether all pixels (H, W, C) in 0..1 are nearly equal."""
    def holds(part: Tensor) -> bool:
        return bool((part.amax((0, 1)) - part.amin((0, 1)) <= FLAT).all())

    return holds(_thinned(pixels)) and holds(pixels)


def is_white(mask: Tensor) -> bool:
    """Whether a mask (H, W) in 0..1 marks everything."""
    return bool((_thinned(mask) > 0.5).all()) and bool((mask > 0.5).all())


def lost_to_crop(height: int, width: int, options: DataOptions) -> float:
    """The fraction of a photo's area that its centred crop leaves out; of a bucket's steps nothing is counted."""
    aspect = max(height, width) / min(height, width)
    kept = MAX_ASPECT if options.shape == "buckets" else 1.0
    return max(0.0, 1 - kept / aspect)


def marks_the_background(mask: Tensor) -> bool:
    """Whether a mask (H, W) in 0..1 covers most of the photo's edge and clearly less of its middle half."""
    mask = _thinned(mask)
    height, width = mask.shape
    down, across = max(1, round(height * EDGE)), max(1, round(width * EDGE))
    inside = mask[down:height - down, across:width - across]
    edge = (mask.sum() - inside.sum()) / (mask.numel() - inside.numel())
    middle = mask[height // 4:height - height // 4, width // 4:width - width // 4].mean()
    return bool(edge >= EDGE_MARKED and middle <= MIDDLE_MARKED * edge)


def _thinned(pixels: Tensor) -> Tensor:
    """Every so many-th row and column: large photos take half a second otherwise."""
    step = max(1, max(pixels.shape[:2]) // ENOUGH)
    return pixels[::step, ::step]


def _masks(photo: Photo) -> Sequence[Tensor]:
    """The masks as the user gave them: of each object, or of the one subject."""
    return photo.object_masks or (() if photo.mask is None else (photo.mask,))


def _numbers(found: Iterable[bool]) -> str:
    """'photo 2' or 'photos 1, 3, 4': those for which it holds; empty for none."""
    numbers = [str(number) for number, holds in enumerate(found, start=1) if holds]
    return f"photo{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}" if numbers else ""
