"""What ComfyUI's loaders are told of the pocket models."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from .. import image_text
from .image_tower import register_image_tower
from .model import register_model
from .upscaler import register_upscaler

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"


def register_models() -> None:
    """Let stock loaders know the pocket models' configurations; a second call changes nothing."""
    register_model()
    register_upscaler()


def list_folders() -> None:
    """Let stock loaders list the pocket models' files."""
    folder_paths.add_model_folder_path("checkpoints", str(CHECKPOINTS))
    folder_paths.add_model_folder_path("clip_vision", str(image_text.IMAGE_TEXT_FOLDER))


def register_pocket() -> None:
    """All of it; a second call changes nothing."""
    register_models()
    list_folders()
    register_image_tower()
