"""Folders of photos inside ComfyUI's input folder, as subjects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import folder_paths
import torch
from torch import Tensor

from ....core.data.options import DataOptions
from ....core.data.photo_files import fit_mask, read_caption, read_mask, read_picture
from ....core.data.photo_folder import (
    MASK_FOLDERS,
    PhotoFiles,
    PhotoFolder,
    find_subject_folders,
    read_folder_name,
    shown_name,
)
from ....core.dci.thumbnails import SIDE, contact_sheet
from ....core.errors import InputError, require
from ....core.subject.subject import Photo, Subject
from ....core.wording import clean_prompt
from .photos import photos_from_images

ACROSS = 6
"""Photos in a row of the sheet."""
DIMMED = 0.3
"""How bright the sheet shows what a mask leaves out."""


def input_folders() -> list[str]:
    """Subfolders of the input folder that may hold photos, as the node lists them."""
    return [name for name in folder_paths.get_input_subfolders()
            if not any(part.startswith((".", "@", "__")) for part in name.split("/"))
            and name.rpartition("/")[2].casefold() not in MASK_FOLDERS]


def find_folder(name: str) -> Path:
    """The folder of that name below ComfyUI's input folder.

    Raises:
        InputError: for one that is not there, or lies outside, also by way of a link.
    """
    root = Path(folder_paths.get_input_directory())
    require(isinstance(name, str), "folder", repr(name)[:80], "the name of a folder", "Choose one of the list.")
    try:
        folder = root / name.strip()
        is_inside = bool(name.strip()) and folder.resolve().is_relative_to(root.resolve())
        is_usable = is_inside and folder.resolve() != root.resolve() and folder.is_dir()
    except (OSError, ValueError) as error:  # a zero byte, a name that is too long
        raise InputError("folder", ascii(name[:80]), "the name of a folder", "Choose one of the list.") from error
    require(is_usable, "folder", ascii(name[:80]), "a subfolder of ComfyUI's input folder",
            "Put the folder itself into 'input', press R, and choose it here.")
    return folder


def read_subjects(folder: Path, identifier: str, class_noun: str, caption_template: str,
                  data: DataOptions) -> tuple[tuple[Subject, ...], list[str]]:
    """One subject of the folder's own photos under the given words, or one of each subfolder under the words of its
    name; and what was left out.

    Raises:
        InputError: for a file that cannot be used; it is named.
    """
    given = SubjectSettings(identifier=identifier.strip(), class_noun=class_noun.strip(), template=caption_template,
                            data=data)
    subjects: list[Subject] = []
    warnings: list[str] = []
    for found in _found_in(folder):
        settings = given if found.path == folder else given.of_folder(found.path)
        photos, notes = zip(*(_photo(files, settings) for files in found.photos), strict=True)
        subjects.append(settings.subject(photos))
        warnings += [*found.warnings, *filter(None, notes)]
    return tuple(subjects), warnings


def class_photos(folder: Path) -> tuple[int, Iterator[Photo]]:
    """How many photos of one class a folder has, and the photos, each read when it is asked for.

    Raises:
        InputError: for a folder of several subjects, and for a file that cannot be used; it is named.
    """
    found = _found_in(folder)
    require(len(found) == 1, "folder", f"{len(found)} subfolders with pictures", "the pictures of one class",
            "Choose one of the subfolders, and use a node for each class.")

    def read() -> Iterator[Photo]:
        for files in found[0].photos:
            picture = read_picture(files.picture)
            with _naming(files.picture):
                (photo,) = photos_from_images([picture.pixels])
            yield replace(photo, caption=_caption(files))

    return len(found[0].photos), read()


@dataclass(frozen=True, kw_only=True)
class SubjectSettings:
    """What a subject has beside its photos."""

    identifier: str
    class_noun: str
    template: str
    data: DataOptions

    def of_folder(self, path: Path) -> SubjectSettings:
        """These settings, and in their place what a folder's name says."""
        found = read_folder_name(path.name)
        with _naming(path):
            found = replace(found, identifier=clean_prompt(found.identifier, "identifier"),
                            class_noun=clean_prompt(found.class_noun, "class_noun"))
            data = self.data if found.repeats is None else replace(self.data, repeats=found.repeats)
        return replace(self, identifier=found.identifier, class_noun=found.class_noun or self.class_noun, data=data)

    def subject(self, photos: Sequence[Photo]) -> Subject:
        return Subject(identifier=self.identifier, class_noun=self.class_noun, photos=tuple(photos),
                       caption_template=self.template, data=self.data)


def images_of(subjects: Sequence[Subject]) -> tuple[list[Tensor], list[Tensor], list[str]]:
    """Every photo as IMAGE (1, H, W, 3), MASK (1, H, W) and caption; all white and an empty text where it has none."""
    photos = [photo for subject in subjects for photo in subject.photos]
    masks = [torch.ones(photo.pixels.shape[:2]) if photo.mask is None else photo.mask for photo in photos]
    return ([photo.pixels[None] for photo in photos], [mask[None] for mask in masks],
            [photo.caption or "" for photo in photos])


def photo_sheet(subjects: Sequence[Subject]) -> Tensor:
    """(1, H, W, 3) in 0..1: all photos under their subject's caption; what a mask leaves out is dim."""
    labels, rows = [], []
    for subject in subjects:
        shown = [_thinned(photo) for photo in subject.photos]
        for first in range(0, len(shown), ACROSS):
            labels.append(f"{subject.caption}, {first + 1} to {min(first + ACROSS, len(shown))} of {len(shown)}")
            rows.append(shown[first:first + ACROSS])
    return contact_sheet(labels, rows)


def _thinned(photo: Photo) -> Tensor:
    """Every so many-th pixel of a photo, enough for a thumbnail; the whole of it would take half a second."""
    step = max(1, max(photo.pixels.shape[:2]) // (4 * SIDE))
    pixels = photo.pixels[::step, ::step]
    return pixels if photo.mask is None else pixels * (DIMMED + (1 - DIMMED) * photo.mask[::step, ::step, None])


def _found_in(folder: Path) -> tuple[PhotoFolder, ...]:
    """The folder's subjects, none of whose files is a link to somewhere else."""
    root = Path(folder_paths.get_input_directory()).resolve()
    subjects = find_subject_folders(folder)
    for path in (path for found in subjects for photo in found.photos for path in photo.all):
        require(path.resolve().is_relative_to(root), "folder", f"{shown_name(path)}, a link to another place",
                "files inside ComfyUI's input folder", "Copy it into the folder.")
    return subjects


def _photo(files: PhotoFiles, settings: SubjectSettings) -> tuple[Photo, str]:
    """A photo with its mask and caption; and what of its file was not used."""
    picture = read_picture(files.picture)
    height, width = picture.pixels.shape[:2]
    mask = picture.cut_out if files.mask is None else fit_mask(read_mask(files.mask), height, width)
    with _naming(files.mask or files.picture):
        (photo,) = photos_from_images([picture.pixels], [] if mask is None else [mask])
    photo = replace(photo, caption=_caption(files))
    with _naming(files.caption or files.picture):
        settings.subject([photo])
    return photo, picture.note


def _caption(files: PhotoFiles) -> str | None:
    if files.caption is None:
        return None
    text = read_caption(files.caption)
    with _naming(files.caption):
        return " ".join(clean_prompt(text, "captions").split()) or None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What is refused within is refused with the name of its file or folder."""
    try:
        yield
    except InputError as refusal:
        raise InputError(refusal.name, f"{shown_name(path)}: {refusal.got}", refusal.expected, refusal.fix) from refusal


def files_digest(folder: Path) -> str:
    """Digest of the names and the content of everything that would be read."""
    digest = hashlib.blake2b(digest_size=20)
    for found in _found_in(folder):
        for path in (path for photo in found.photos for path in photo.all):
            digest.update(f"{path.relative_to(folder)}\0".encode(errors="surrogateescape"))
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        digest.update("\n".join(found.warnings).encode(errors="surrogateescape"))
    return digest.hexdigest()


def folder_state(name: str) -> str:
    """Changes whenever anything does that would be read of a folder.

    Raises:
        InputError: when there is none, or it lies outside.
        OSError: a file in it cannot be read.
    """
    return files_digest(find_folder(name))
