"""What users read names no folder of this machine but ComfyUI's own, by their usual names."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.plain_paths import plain_paths
from comfyui_personalize.nodes.bridge.queue.linked_inputs import with_checked_sockets


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """An output folder inside ComfyUI's, as by default."""
    monkeypatch.setattr(folder_paths, "base_path", str(tmp_path))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path


def test_folders_of_comfyui_are_told_by_their_names(folders):
    text = f"{folders / 'output' / 'personalize' / 'dog'} and {folders / 'custom_nodes'}"
    assert plain_paths(text) == "output/personalize/dog and ComfyUI/custom_nodes"
    assert plain_paths(f"{Path.home()}/photos") == "~/photos" and plain_paths("a / b") == "a / b"


def test_a_nodes_error_names_no_other_folder(folders):
    class Node:
        @classmethod
        def execute(cls):
            raise InputError("file", folders / "output" / "x", "another", "Remove it.")

        @classmethod
        def GET_SCHEMA(cls):  # noqa: N802 - ComfyUI's name
            return type("Schema", (), {"inputs": [], "is_input_list": False})

    with pytest.raises(InputError) as refusal:
        with_checked_sockets(Node).execute()
    assert str(refusal.value) == "file: got output/x, expected another. Remove it."
