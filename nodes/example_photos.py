"""Example photos in ComfyUI's input folder, so that the workflows of the template gallery run as they are.

They go into a sub-folder of their own, once: whoever empties that folder has seen the last of them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import folder_paths

PHOTOS = Path(__file__).resolve().parent.parent / "workflows" / "photos"
FOLDER = "personalize"


def provide_example_photos() -> None:
    """Copy the example photos to ``input/personalize`` where that folder does not exist yet."""
    target = Path(folder_paths.get_input_directory()) / FOLDER
    if not target.exists():
        shutil.copytree(PHOTOS, target, ignore=shutil.ignore_patterns("*.md"))
