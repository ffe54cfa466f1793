"""Runs are found by what they were made from, and their names are only labels."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.runs import (
    STATE,
    check_run_name,
    find_run,
    open_run,
    read_cache,
    run_key,
    write_cache,
)

KEY, OTHER, THIRD = (run_key({"seed": seed}) for seed in range(3))
TENSORS = {"x": torch.arange(3.0)}


@pytest.mark.parametrize("name", [
    "", "  ", "..", ".", "../x", "a/b", "a\\b", "/x", "C:x", "con", "NUL.txt", "com1", "x.", ".x", "a\0b", "a\nb", "a*",
    "x" * 101, "ü" * 60])
def test_names_that_are_no_folder_name_everywhere_are_refused(name):
    with pytest.raises(InputError, match="run_name: got .*Write a plain name"):
        check_run_name(name)


@pytest.mark.parametrize("name", ["my_dog", "Mein Hund", "熊", "a.b", "context", " spaced "])
def test_ordinary_names_are_kept(name):
    assert check_run_name(name) == name.strip()


def test_the_key_ignores_order_and_sees_every_value():
    assert run_key({"a": 1, "b": {"c": 2}}) == run_key({"b": {"c": 2}, "a": 1}) != run_key({"a": 1, "b": {"c": 3}})


def test_the_same_key_is_the_same_run(tmp_path):
    assert open_run(tmp_path, "dog", KEY) == open_run(tmp_path, "dog", KEY)


def test_another_key_under_the_same_name_gets_a_suffix(tmp_path):
    assert [open_run(tmp_path, "dog", key).name for key in (KEY, OTHER, THIRD, OTHER)] == [
        "dog", "dog-2", "dog-3", "dog-2"]


def test_the_same_key_is_found_under_another_name(tmp_path):
    first = open_run(tmp_path, "dog", KEY)
    assert open_run(tmp_path, "cat", KEY) == first


def test_other_peoples_folders_and_files_are_left_alone(tmp_path):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("mine")
    (tmp_path / "dog-2").write_text("a file")
    assert open_run(tmp_path, "dog", KEY).name == "dog-3"


def test_a_damaged_label_is_no_run(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    (run.folder / "run.json").write_text("{")
    assert find_run(tmp_path, "dog", KEY) is None and open_run(tmp_path, "dog", KEY).name == "dog-2"


def test_state_comes_back_exactly(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    run.save_state(7, TENSORS, {"losses": [0.1, 1e-17]})
    saved = run.load_state()
    assert saved is not None and saved.step == 7 and saved.metadata == {"losses": [0.1, 1e-17]}
    assert torch.equal(saved.tensors["x"], TENSORS["x"])


def test_a_damaged_or_foreign_state_is_no_state(tmp_path):
    run, other = open_run(tmp_path, "dog", KEY), open_run(tmp_path, "dog", OTHER)
    run.save_state(7, TENSORS, {})
    (other.folder / STATE).write_bytes((run.folder / STATE).read_bytes())
    assert other.load_state() is None
    (run.folder / STATE).write_bytes(b"half a fi")
    assert run.load_state() is None


def test_adapters_are_kept_per_step(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    path = run.save_adapter(7, TENSORS, {"steps": 7})
    assert path.name == "adapter-000007.safetensors" and run.load_adapter(8) is None
    found = run.load_adapter(7)
    assert found is not None and found[1] == {"steps": 7}


def test_what_a_killed_process_left_is_removed(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    leftover = run.folder / ".state.safetensors.abc.tmp"
    leftover.write_bytes(b"half")
    open_run(tmp_path, "dog", KEY)
    assert not leftover.exists()


def test_the_cache_gives_back_what_was_written(tmp_path):
    assert read_cache(tmp_path, "d") is None
    write_cache(tmp_path, "d", TENSORS)
    found = read_cache(tmp_path, "d")
    assert found is not None and torch.equal(found["x"], TENSORS["x"])
