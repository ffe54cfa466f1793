"""The photos of one subject, from a folder or from sockets, whose words are known later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ....core.data.options import DataOptions
from ....core.errors import require
from ....core.subject.subject import Subject
from .folders import find_folder, read_subjects
from .photos import photos_from_images

NO_FOLDER = "none"


@dataclass(eq=False)
class FoundPhotos:
    """Photos that wait for the identifier.

    Attributes:
        folder: of the photos; `NO_FOLDER` for images.
        warnings: about files, once they were read.
    """

    folder: str
    images: Sequence[Tensor]
    noun: str
    warnings: list[str] = field(default_factory=list)

    def __call__(self, identifier: str, caption_template: str) -> Subject:
        """The subject of that identifier.

        Raises:
            InputError: for what cannot be used; a file is named.
        """
        if self.folder == NO_FOLDER:
            return Subject(identifier=identifier, class_noun=self.noun, photos=photos_from_images(self.images),
                           caption_template=caption_template)
        subjects, self.warnings = read_subjects(find_folder(self.folder), identifier, self.noun, caption_template,
                                                DataOptions())
        require(len(subjects) == 1, "photos", f"{len(subjects)} subfolders with photos", "the photos of one subject",
                "Choose one of the subfolders; for several subjects use the node that reads folders of them.")
        return subjects[0]


def one_subject(folder: str, images: Sequence[Tensor], noun: str) -> FoundPhotos:
    """The photos of a folder, or the connected ones.

    Raises:
        InputError: there are none, or both.
    """
    has_folder, has_images = folder != NO_FOLDER, bool(images)
    require(has_folder or has_images, "photos", "none", "3 to 5 photos of your subject",
            "Press 'choose photos', choose a folder, or connect images.")
    require(not (has_folder and has_images), "photos", "a folder and connected images", "one of the two",
            "Choose none, or disconnect images.")
    return FoundPhotos(folder, images, noun)
