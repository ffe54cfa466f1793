"""Photos, masks and captions as files hold them: upright pixels in 0..1, text in whatever encoding an editor chose."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from .photo_folder import shown_name

SAME_SHAPE = 0.02
"""A mask is scaled to its photo where the two aspect ratios differ by at most this fraction."""
BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
                    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""UTF-32 before UTF-16, whose mark is the beginning of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture file.

    Attributes:
        pixels: (H, W, 3) in 0..1; (H, W, 4) with opacity where a part is transparent, its hidden colours as they are.
        note: what of the file was not used; empty for an ordinary one.
    """

    pixels: Tensor
    note: str = ""

    @property
    def cut_out(self) -> Tensor | None:
        """(H, W): the opacity of a picture some of which is more transparent than not; None for another."""
        opacity = self.pixels[..., 3] if self.pixels.shape[-1] == 4 else None
        return opacity if opacity is not None and bool((opacity < 0.5).any()) else None


def read_picture(path: Path) -> Picture:
    """The picture as viewers show it: turned as its camera says, the first frame of several.

    Raises:
        InputError: for a file that Pillow cannot read.
    """
    image, note = _opened(path)
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return Picture(pixels=_deep_grey(image, path)[..., None].expand(-1, -1, 3).clone(), note=note)
    rgba = _converted(image, "RGBA", path) if image.has_transparency_data else None
    if rgba is not None and rgba[..., 3].min() < 1:
        return Picture(pixels=rgba, note=note)
    return Picture(pixels=_converted(image, "RGB", path), note=note)


def read_mask(path: Path) -> Tensor:
    """(H, W) in 0..1: how bright the mask is, in its brightest channel; transparent parts are black.

    Raises:
        InputError: for a file that Pillow cannot read.
    """
    pixels = read_picture(path).pixels
    opacity = pixels[..., 3] if pixels.shape[-1] == 4 else 1
    return pixels[..., :3].amax(-1) * opacity


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """The mask (H, W) at its photo's size, if it is of the photo's shape; any other one as it is."""
    ratio = mask.shape[0] * width / (mask.shape[1] * height)
    if tuple(mask.shape) == (height, width) or abs(ratio - 1) > SAME_SHAPE:
        return mask
    return functional.interpolate(mask[None, None], size=(height, width), mode="bilinear", antialias=True)[0, 0]


def read_caption(path: Path) -> str:
    """The text of a caption file as one line.

    Raises:
        InputError: for a file that cannot be read.
    """
    try:
        return " ".join(decode_text(path.read_bytes()).split())
    except (OSError, UnicodeError) as error:
        raise InputError("captions", f"{shown_name(path)}, which cannot be read ({error})", "a text file",
                         "Save it as UTF-8 text.") from error


def decode_text(content: bytes) -> str:
    """Text as an editor saved it: UTF-8, UTF-16 or UTF-32 by its byte-order mark, else UTF-8, UTF-16 without a mark
    (every second byte of plain words is zero), or Windows' code page 1252.

    Raises:
        UnicodeError: for a byte-order mark that the rest of the file contradicts.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    if b"\0" in content and len(content) % 2 == 0:
        return content.decode("utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be")
    for encoding in ("utf-8", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _opened(path: Path) -> tuple[Image.Image, str]:
    """The file's first frame, loaded and upright, and a note where there are more frames."""
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            is_sequence = frames > 1 and image.format != "MPO"  # a camera's second picture is no second frame
            note = f"{shown_name(path)}: the first of {frames} frames is used" if is_sequence else ""
            image.load()
            return _upright(image.copy() if frames > 1 else image), note
    except Exception as error:  # Pillow's plug-ins raise whatever a damaged file leads them to
        raise _unreadable(path, error) from error


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; as it is where EXIF itself is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - EXIF parsers raise anything, and the pixels are there
        return image.copy()


def _converted(image: Image.Image, mode: str, path: Path) -> Tensor:
    """(H, W, C) in 0..1, each value as ComfyUI's own loader has it."""
    try:
        values = numpy.array(image.convert(mode))
    except Exception as error:
        raise _unreadable(path, error) from error
    return torch.from_numpy(values.astype(numpy.float32) / 255.0)


def _deep_grey(image: Image.Image, path: Path) -> Tensor:
    """(H, W) in 0..1 of a grey picture with more than 8 bits."""
    values = torch.from_numpy(numpy.array(image).astype(numpy.float32))
    high = 1.0 if image.mode == "F" else 65535.0
    if float(values.min()) < 0 or float(values.max()) > high:
        raise InputError("images", f"{shown_name(path)} with values {float(values.min()):g} to {float(values.max()):g}",
                         f"values 0 to {high:g}", "Save it as an ordinary PNG or JPEG.")
    return values / high


def _unreadable(path: Path, error: Exception) -> InputError:
    what = "which is empty" if _is_empty(path) else f"which cannot be read ({type(error).__name__})"
    return InputError("images", f"{shown_name(path)}, {what}", "JPEG, PNG, WebP or another format that Pillow reads",
                      "Open it in a picture program and save it as PNG or JPEG, or take it out of the folder.")


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
