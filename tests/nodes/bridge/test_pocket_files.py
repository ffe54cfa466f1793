"""A pocket file that is missing or damaged is named with the command that brings it back."""

from __future__ import annotations

import folder_paths
import pytest
import torch
from safetensors.torch import save_file

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge import pocket_files
from comfyui_personalize.nodes.bridge.pocket_files import (
    FILES,
    check_pocket_files,
    flaw_of,
    flawed_files,
    mending_command,
    warnings_of,
)
from comfyui_personalize.nodes.bridge.text.image_text import load_folder
from comfyui_personalize.pocket import image_text

PLACE = "pocket/checkpoints/pocket.safetensors"


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """A folder in the extension's place whose files are whole, and small."""
    for _, place in FILES.values():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, tmp_path / place, metadata={"pocket": "{}"})
    (tmp_path / "pocket/names.json").write_text('{"names": []}')
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(pocket_files, "ROOT", tmp_path)
    return tmp_path


def test_the_files_that_come_with_the_extension_are_whole():
    assert flawed_files() == {}


def test_whole_files_have_no_flaw(extension):
    assert flawed_files() == {}


@pytest.mark.parametrize(("keep", "said"), [
    (0, "damaged (ValueError)"), (40, "damaged (ValueError)"), (-1, "bytes, its header says"),
])
def test_a_file_that_was_cut_off_is_damaged(extension, keep, said):
    path = extension / PLACE
    path.write_bytes(path.read_bytes()[:keep])
    assert said in flaw_of(path)


def test_a_pointer_in_place_of_the_file_is_damaged(extension):
    (extension / PLACE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 40200000\n")
    assert flaw_of(extension / PLACE) == "damaged (ValueError)"


@pytest.mark.parametrize("name", [*FILES, "names.json"])
def test_a_missing_file_is_named_with_the_command_that_brings_it_back(extension, name):
    place = FILES[name][1] if name in FILES else pocket_files.NAMES
    (extension / place).unlink()
    assert flawed_files() == {name: f'{place} is missing. It comes back with: git -C "{extension}" checkout HEAD -- '
                                    f"{place}"}


def test_where_the_extension_was_not_cloned_it_is_installed_again(extension):
    (extension / ".git").rmdir()
    assert mending_command(PLACE) == "comfy node reinstall comfyui-personalize"


def graph(name="pocket.safetensors"):
    return {"7": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}}


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_queued_graph_that_names_it_is_told(extension, monkeypatch, is_listed):
    (extension / PLACE).write_bytes(b"cut")
    monkeypatch.setattr(folder_paths, "get_full_path", lambda *_: str(extension / PLACE) if is_listed else None)
    ((node, said),) = warnings_of(graph())
    assert node == "7" and said.startswith(f"{PLACE} is damaged (ValueError). It comes back with: git -C ")
    assert list(warnings_of(graph("another.safetensors"))) == []


def test_another_folders_file_of_the_same_name_is_none_of_ours(extension, monkeypatch):
    (extension / PLACE).unlink()
    monkeypatch.setattr(folder_paths, "get_full_path", lambda *_: str(extension / "models" / "pocket.safetensors"))
    assert list(warnings_of(graph())) == []


def test_a_node_that_needs_it_refuses_with_the_command(extension):
    (extension / PLACE).unlink()
    with pytest.raises(InputError, match="clip: got pocket/checkpoints/pocket.safetensors, which is missing, expected"):
        check_pocket_files("clip", PLACE)
    with pytest.raises(InputError, match="Run: git -C .* checkout HEAD -- pocket/checkpoints/pocket.safetensors"):
        load_folder("pocket")


def test_a_damaged_projection_leaves_the_checkpoint_loadable(tmp_path):
    (tmp_path / "clip.safetensors").write_bytes(b"cut")
    assert image_text.text_projection(tmp_path / "clip.safetensors") is None
    assert image_text.text_projection(tmp_path / "none.safetensors") is None
