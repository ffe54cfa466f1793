"""Runs are found by what they were made from, and their names are only labels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run_store import ADAPTER, VALUES

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store import temporary
from comfyui_personalize.core.store.runs import (
    STATE_FILE,
    check_run_name,
    find_run,
    only_here,
    open_run,
    read_cache,
    reopened,
    run_key,
    write_cache,
)

KEY, OTHER, THIRD = (run_key({"seed": seed}) for seed in range(3))
TENSORS = {"x": torch.arange(3.0)}
LOCK_AND_DIE = """
import os, sys
sys.path.insert(0, {tests!r})
import conftest
from pathlib import Path
from comfyui_personalize.core.store.runs import only_here
with only_here(Path({root!r}), "dog", {key!r}):
    os._exit(9)
"""
ROOT = Path(__file__).resolve().parents[3]


def test_a_name_loses_what_nobody_can_see():
    assert check_run_name("\ufeffmy\u200b dog ") == "my dog"


@pytest.mark.parametrize("name", [
    "", "  ", "..", ".", "../x", "a/b", "a\\b", "/x", "C:x", "con", "NUL.txt", "com1", "x.", ".x", "a\0b", "a\nb", "a*",
    "x" * 101, "ü" * 60, "dog\ud800", "\udfff", "com¹", "x\x7f"])
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
    assert run.load_state() is None
    run.save_state(7, TENSORS, VALUES)
    saved = run.load_state()
    assert saved is not None and saved.step == 7 and saved.metadata == VALUES
    assert torch.equal(saved.tensors["x"], TENSORS["x"])


def test_a_damaged_or_foreign_state_is_refused_with_its_path(tmp_path):
    run, other = open_run(tmp_path, "dog", KEY), open_run(tmp_path, "dog", OTHER)
    run.save_state(7, TENSORS, VALUES)
    (other.folder / STATE_FILE).write_bytes((run.folder / STATE_FILE).read_bytes())
    with pytest.raises(InputError, match="dog-2/state.safetensors: the state of another run.*Remove that file"):
        other.load_state()
    (run.folder / STATE_FILE).write_bytes(b"half a fi")
    with pytest.raises(InputError, match="dog/state.safetensors: a corrupt file.*Remove that file.*dog/state"):
        run.load_state()


def test_a_state_whose_losses_are_not_those_of_its_steps_is_refused(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    run.save_state(7, TENSORS, {**VALUES, "losses": [0.5]})
    with pytest.raises(InputError, match="step 7 and 1 losses, expected as many losses as steps. Remove that file"):
        run.load_state()


def test_adapters_are_kept_per_step(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    path = run.save_adapter(7, TENSORS, ADAPTER)
    assert path.name == "adapter-000007.safetensors" and run.load_adapter(8) is None and run.results() == [7]
    found = run.load_adapter(7)
    assert found is not None and found[1] == ADAPTER


def test_one_flipped_bit_anywhere_in_an_adapter_makes_it_no_result(tmp_path, caplog):
    caplog.set_level("ERROR")
    run = open_run(tmp_path, "dog", KEY)
    data = run.save_adapter(7, TENSORS, ADAPTER).read_bytes()
    for position in range(len(data)):
        run.adapter_path(7).write_bytes(data[:position] + bytes([data[position] ^ 1 << position % 8])
                                        + data[position + 1:])
        found = run.load_adapter(7)
        # What may come back is whole: the bit was in the header's padding, or in the checksum's own name.
        assert found is None or (ADAPTER.items() <= found[1].items() and torch.equal(found[0]["x"], TENSORS["x"]))


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    write_cache(tmp_path, "d", TENSORS)
    folders = (run.folder, tmp_path / ".cache", tmp_path)
    dead = [folder / f".x.{'0' * 32}{temporary.LOCKED}" for folder in folders]
    for path in dead:
        path.write_bytes(b"half")
    with temporary.temporary_file(run.folder / "living") as (_, living):
        open_run(tmp_path, "dog", KEY)
        assert living.exists() and not any(path.exists() for path in dead)


def test_a_leftover_of_an_older_version_is_removed_once_it_is_old(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    leftover = run.folder / ".state.safetensors.abc.tmp"
    leftover.write_bytes(b"half")
    open_run(tmp_path, "dog", KEY)
    assert leftover.exists()  # its writer may be alive: older versions hold no lock
    os.utime(leftover, (0, 0))
    open_run(tmp_path, "dog", KEY)
    assert not leftover.exists()


def test_a_folder_left_without_its_label_keeps_the_runs_name(tmp_path):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / f".run.json.{'0' * 32}{temporary.LOCKED}").write_bytes(b"half")
    assert open_run(tmp_path, "dog", KEY).name == "dog"


def test_a_run_without_a_label_is_found_by_its_state(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    run.save_state(7, TENSORS, VALUES)
    (run.folder / "run.json").write_text("{")
    assert open_run(tmp_path, "cat", KEY).folder == run.folder and open_run(tmp_path, "dog", OTHER).name == "dog-2"


def test_a_run_of_a_newer_version_is_refused_and_no_other_is(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    (run.folder / "run.json").write_text(json.dumps({"key": KEY, "label": "dog", "version": 2}))
    with pytest.raises(InputError, match="dog/run.json: a file of version 2, expected version 1 or older.*update"):
        open_run(tmp_path, "dog", KEY)
    assert open_run(tmp_path, "dog", OTHER).name == "dog-2"


def test_a_vanished_folder_is_made_again_under_the_runs_name(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    shutil.rmtree(tmp_path)
    assert reopened(run) == run and (run.folder / "run.json").exists() and reopened(run) is run


def test_a_run_that_another_process_has_is_refused_in_one_sentence(tmp_path):
    with only_here(tmp_path, "dog", KEY):
        with (pytest.raises(InputError, match="run_name: got 'dog', which another ComfyUI trains at the moment"),
              only_here(tmp_path, "dog", KEY, seconds=0.1)):
            pass
        with only_here(tmp_path, "dog", OTHER, seconds=0.1):
            pass
    with only_here(tmp_path, "dog", KEY, seconds=0.1):
        pass


def test_the_lock_of_a_run_goes_with_its_process(tmp_path):
    script = LOCK_AND_DIE.format(tests=str(ROOT / "tests"), root=str(tmp_path), key=KEY)
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert died.returncode == 9, died.stderr
    with only_here(tmp_path, "dog", KEY, seconds=0.1):
        pass


def test_the_cache_gives_back_what_was_written(tmp_path):
    assert read_cache(tmp_path, "d") is None
    write_cache(tmp_path, "d", TENSORS)
    found = read_cache(tmp_path, "d")
    assert found is not None and torch.equal(found["x"], TENSORS["x"])


def test_a_cache_of_another_digest_or_with_a_flipped_bit_is_none(tmp_path):
    write_cache(tmp_path, "d", TENSORS)
    (tmp_path / ".cache" / "e.safetensors").write_bytes((tmp_path / ".cache" / "d.safetensors").read_bytes())
    assert read_cache(tmp_path, "e") is None
    damaged = bytearray((tmp_path / ".cache" / "d.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / ".cache" / "d.safetensors").write_bytes(damaged)
    assert read_cache(tmp_path, "d") is None


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, caplog):
    (tmp_path / ".cache").write_text("a file in the place of the folder")
    write_cache(tmp_path, "d", TENSORS)
    assert "not kept for the next run" in caplog.text


def test_half_a_character_is_no_part_of_a_key(tmp_path):
    with pytest.raises(InputError, match="text: got half of a character"):
        run_key({"noun": "dog\ud800"})
