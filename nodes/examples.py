"""What the workflows of the template gallery need to run as they are: example photos, and one saved personalization.

Photos go where the editor looks for Load Image's choices; it takes a file in a sub-folder for a missing one. The
personalization stays where it is, in a folder that ComfyUI lists among its LoRAs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import folder_paths

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
STAMP = ".personalize_examples"
"""In the input folder: names of the photos that were copied there at some time. Its name keeps it out of every list."""
FOLDER, IN_FOLDER = "personalize_dog", "personalize_dog_[0-9].png"
"""In the input folder: the photos of one subject once more, for a node that takes a folder."""
PHOTOS, PERSONALIZATIONS = WORKFLOWS / "photos", WORKFLOWS / "personalizations"


def provide_example_photos() -> None:
    """Copy ``personalize_*.png`` into the input folder, those of the dog also into a folder there, each once: one that
    the user removes stays away."""
    target = Path(folder_paths.get_input_directory())
    target.mkdir(parents=True, exist_ok=True)
    stamp = target / STAMP
    known = stamp.read_text(encoding="utf-8", errors="replace").splitlines() if stamp.exists() else []
    photos = {photo.name: photo for photo in sorted(PHOTOS.glob("*.png"))}
    photos |= {f"{FOLDER}/{photo.name}": photo for photo in sorted(PHOTOS.glob(IN_FOLDER))}
    new = {name: photo for name, photo in photos.items() if name not in known}
    for name, photo in new.items():
        if not (target / name).exists():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(photo, target / name)
    if new:
        stamp.write_text("\n".join([*known, *new]) + "\n", encoding="utf-8")


def list_example_personalizations() -> None:
    """Let loaders list the saved personalizations that come with the workflows."""
    if PERSONALIZATIONS.is_dir():
        folder_paths.add_model_folder_path("loras", str(PERSONALIZATIONS))
