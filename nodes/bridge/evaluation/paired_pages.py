"""What ComfyUI's sockets give a paired-comparison page: lists of IMAGE batches, prompts, photos; and where it goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import folder_paths
import torch
from torch import Tensor

from ....core.errors import require
from ....core.evaluation.metrics import without_identifier
from ....core.store.files import make_folder, write_bytes
from ....core.store.runs import check_run_name
from ....core.subject.subject import Subject
from ..photos.photos import photos_from_images

SUFFIX = ".html"


def stacked_pictures(name: str, batches: Sequence[Tensor]) -> Tensor:
    """One method's pictures in order, (N, 3, H, W) in 0..1, from IMAGE batches (B, H, W, C).

    Raises:
        InputError: pictures of several sizes, or unusable ones.
    """
    pictures = [photo.pixels.movedim(-1, 0) for photo in photos_from_images(batches)]
    sizes = {f"{picture.shape[2]} x {picture.shape[1]}" for picture in pictures}
    require(len(sizes) <= 1, f"pictures of {name}", f"pictures of {' and '.join(sorted(sizes))} pixels", "one size",
            "Draw all pictures in the same size.")
    return torch.stack(pictures) if pictures else torch.zeros(0, 3, 8, 8)


def prompt_of_each(texts: Sequence[str], batches: Sequence[Tensor]) -> list[str]:
    """One prompt per picture: a list of texts, or one text of as many lines; for every picture, for every batch of
    a list, or for all of them."""
    given = texts[0].splitlines() if len(texts) == 1 else texts
    prompts = [" ".join(line.split()) for line in given if line.strip()]
    counts = [len(batch) if batch.ndim == 4 else 1 for batch in batches]
    if len(prompts) == 1:
        return prompts * sum(counts)
    if len(prompts) == len(counts):
        return [prompt for prompt, count in zip(prompts, counts, strict=True) for _ in range(count)]
    return prompts


def as_raters_read(prompts: Iterable[str], subjects: Iterable[Subject]) -> list[str]:
    """The prompts without the subjects' identifiers, which mean nothing to a rater: 'a sks dog' -> 'a dog'."""
    identifiers = [identifier for subject in subjects for identifier, _ in subject.names]
    return [_without_all(prompt, identifiers) for prompt in prompts]


def _without_all(prompt: str, identifiers: Iterable[str]) -> str:
    for identifier in identifiers:
        prompt = without_identifier(prompt, identifier)
    return prompt


def reference_photos(subjects: Iterable[Subject], batches: Iterable[Tensor]) -> list[Tensor]:
    """The subjects' photos, then those of IMAGE batches, as (3, h, w) in 0..1."""
    photos = [photo for subject in subjects for photo in subject.photos] + list(photos_from_images(batches))
    return [photo.pixels.movedim(-1, 0) for photo in photos]


def check_page_name(name: str) -> Path:
    """The name as a relative path without ending; `/` separates folders.

    Raises:
        InputError: for a name that leads out of the output folder or is no name on some system.
    """
    return Path(*(check_run_name(part, "file_name") for part in name.strip().removesuffix(SUFFIX).split("/")))


def save_page(name: str, page: bytes) -> Path:
    """Save below ComfyUI's output folder and return the path. The same page is left alone; another one is never
    replaced, for answers may belong to it: the new one gets the suffix -2, -3, ...

    Raises:
        InputError: for a name that leads out of the folder.
        StorageError: for a full disk.
    """
    for path in _candidates(Path(folder_paths.get_output_directory()) / check_page_name(name)):
        if not path.exists():
            make_folder(path.parent)
            write_bytes(path, page)
            return path
        if path.is_file() and path.read_bytes() == page:
            return path
    raise AssertionError("the candidates never end")


def _candidates(stem: Path) -> Iterator[Path]:
    yield stem.with_name(stem.name + SUFFIX)
    number = 2
    while True:
        yield stem.with_name(f"{stem.name}-{number}{SUFFIX}")
        number += 1
