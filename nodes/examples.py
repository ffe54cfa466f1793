"""What the workflows of the template gallery need to run as they are: example photos, and one saved personalization.

Photos go where the editor looks for Load Image's choices; it takes a file in a sub-folder for a missing one. The
personalization stays where it is, in a folder that ComfyUI lists among its LoRAs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import folder_paths

WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"
PHOTOS, PERSONALIZATIONS = WORKFLOWS / "photos", WORKFLOWS / "personalizations"


def provide_example_photos() -> None:
    """Copy ``personalize_*.png`` into the input folder, those that are not there yet."""
    target = Path(folder_paths.get_input_directory())
    target.mkdir(parents=True, exist_ok=True)
    for photo in PHOTOS.glob("*.png"):
        if not (target / photo.name).exists():
            shutil.copyfile(photo, target / photo.name)


def list_example_personalizations() -> None:
    """Let loaders list the saved personalizations that come with the workflows."""
    if PERSONALIZATIONS.is_dir():
        folder_paths.add_model_folder_path("loras", str(PERSONALIZATIONS))
