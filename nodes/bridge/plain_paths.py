"""Texts for users without this machine's paths: files are told from ComfyUI's own folders on."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths


def plain_paths(text: str) -> str:
    """The text with ComfyUI's folders by their usual names: "output/personalize/my_dog"."""
    for folder, name in _folders():
        for written in {folder, folder.replace(os.sep, "/"), folder.replace("\\", "\\\\")}:
            text = text.replace(written, name)
    return text


def _folders() -> list[tuple[str, str]]:
    """ComfyUI's folders and the user's own one, the deepest first, each with its usual name."""
    found = {folder_paths.get_output_directory(): "output", folder_paths.get_input_directory(): "input",
             folder_paths.get_temp_directory(): "temp", folder_paths.get_user_directory(): "user",
             folder_paths.models_dir: "models", folder_paths.base_path: "ComfyUI", str(Path.home()): "~"}
    whole = {str(path): name for path, name in found.items() if path and Path(path) != Path(path).parent}
    return sorted(whole.items(), key=lambda entry: len(entry[0]), reverse=True)
