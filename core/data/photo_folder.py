"""What lies in a folder of training photos: the pictures, and by their names the captions and masks of each.

Nothing is opened here. Captions are `name.txt` or `name.caption`; masks `name.mask.png`, `name-mask.png`,
`name_mask.png`, `name-masklabel.png`, or a picture `name` in a subfolder `masks`. A folder name such as `10_zkz dog`
says how often its photos are repeated and which words stand for the subject, as kohya's trainer reads it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, require

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".tga",
            ".avif", ".heic", ".heif", ".jxl")
"""Whether the last ones open depends on the installed Pillow and its plug-ins."""
CAPTIONS = (".txt", ".caption")
"""In the order in which they are preferred."""
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
MASK_FOLDERS = ("masks", "mask")
MASK_NAME = re.compile(r"(?P<photo>.+?)(?P<mark>\.mask|-masklabel|[-_]mask)", re.IGNORECASE)
FOLDER_NAME = re.compile(r"(?:(?P<repeats>\d+)_)?(?P<words>.*)", re.DOTALL)
MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class PhotoFiles:
    """One photo, and what belongs to it."""

    picture: Path
    mask: Path | None = None
    caption: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.picture, self.mask, self.caption) if path is not None)


@dataclass(frozen=True, kw_only=True)
class PhotoFolder:
    """The photos of one subject, in the order of their names.

    Attributes:
        warnings: files that belong to no photo.
    """

    path: Path
    photos: tuple[PhotoFiles, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FolderName:
    """What a subject's folder name says.

    Attributes:
        repeats: how often an epoch shows each photo; None = nothing said.
        identifier: its first word.
        class_noun: its other words; empty where there is one word only.
    """

    repeats: int | None
    identifier: str
    class_noun: str


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which `photo 2` comes before `photo 10`, whatever the case."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part)
                 for part in re.split(r"(\d+)", name.casefold()) if part)


def read_folder_name(name: str) -> FolderName:
    """The words of a folder `[repeats_]identifier [class noun]`.

    Raises:
        InputError: for a name that has no word.
    """
    found = FOLDER_NAME.fullmatch(name)
    words = found["words"].split() if found else []
    require(bool(words), "folder", f"a subfolder {name!r}", "the subject's words in its name",
            "Name it such as '10_zkz dog': repeats, identifier, class noun.")
    repeats = int(found["repeats"]) if found and found["repeats"] else None
    return FolderName(repeats=repeats, identifier=words[0], class_noun=" ".join(words[1:]))


def find_subject_folders(folder: Path) -> tuple[PhotoFolder, ...]:
    """The folder itself where it has photos, as the only one; otherwise each of its subfolders that has some.

    Raises:
        InputError: for a folder that is missing or has no picture.
    """
    files, folders = _entries(folder)
    own = _pair(folder, files, folders)
    below = [_pair(path, *_entries(path)) for path in folders if path.name.casefold() not in MASK_FOLDERS]
    below = [found for found in below if found.photos]
    if own.photos:
        left = [f"'{shown_name(folder)}' has pictures of its own, so its subfolders are not read: "
                + name_files(found.path for found in below)] if below else []
        return (PhotoFolder(path=folder, photos=own.photos, warnings=(*own.warnings, *left)),)
    require(bool(below), "folder", f"no picture in '{shown_name(folder)}'",
            "a folder with pictures, or with one such folder for each subject",
            "Put the photos into it as JPEG, PNG or WebP.")
    return tuple(below)


def shown_name(path: Path) -> str:
    """A file's name as text that can be sent and logged: bytes that are no text are written out."""
    return path.name.encode("utf-8", "backslashreplace").decode()


def name_files(paths: Iterable[Path]) -> str:
    """'a.jpg, b.jpg and 3 more'."""
    names = [shown_name(path) for path in paths]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders in natural order; those that systems put there, whose names start with a dot or `@`, or with
    two underscores, are left out."""
    try:
        found = sorted((path for path in folder.iterdir() if not path.name.startswith((".", "@", "__"))),
                       key=lambda path: (natural_order(path.name), path.name))
        return [path for path in found if path.is_file()], [path for path in found if path.is_dir()]
    except OSError as error:
        raise InputError("folder", f"'{shown_name(folder)}', which cannot be read ({error.strerror or error})",
                         "a folder of pictures", "Look at its name and its permissions.") from error


def _pair(folder: Path, files: Sequence[Path], folders: Sequence[Path]) -> PhotoFolder:
    """Photos with their captions and masks, by name."""
    pictures = [path for path in files if path.suffix.casefold() in PICTURES]
    photos = [path for path in pictures if _photo_of(path) is None]
    masks = {name: path for path in pictures if (name := _photo_of(path)) is not None}
    for path in (path for path in folders if path.name.casefold() in MASK_FOLDERS):
        masks |= {_photo_of(mask) or _stem(mask): mask
                  for mask in _entries(path)[0] if mask.suffix.casefold() in PICTURES}
    captions = {ending: {_stem(path): path for path in files if path.suffix.casefold() == ending}
                for ending in reversed(CAPTIONS)}
    by_name = {name: path for found in captions.values() for name, path in found.items()}
    names = {_stem(path) for path in photos}
    paired = tuple(PhotoFiles(picture=path, mask=masks.get(_stem(path)), caption=by_name.get(_stem(path)))
                   for path in photos)
    return PhotoFolder(path=folder, photos=paired, warnings=(
        *_said_of_others("captions of no picture", [path for name, path in by_name.items() if name not in names]),
        *_said_of_others("masks of no picture (a photo is not to end in 'mask')",
                         [path for name, path in masks.items() if name not in names]),
        *_said_of_others("videos", [path for path in files if path.suffix.casefold() in VIDEOS]),
    ))


def _said_of_others(kind: str, paths: Sequence[Path]) -> list[str]:
    return [f"left out, {kind}: {name_files(paths)}"] if paths else []


def _stem(path: Path) -> str:
    """A file's name without its ending, equal however the system composes its accents."""
    return unicodedata.normalize("NFC", path.stem)


def _photo_of(path: Path) -> str | None:
    """The name of the photo whose mask this is by its own name; None for a photo."""
    found = MASK_NAME.fullmatch(_stem(path))
    return found["photo"] if found else None
