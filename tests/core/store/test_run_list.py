"""Runs are listed by what their files say, and renamed and deleted only where nobody trains them."""

import json
import shutil

import pytest
import torch
from run_store import ADAPTER, VALUES

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store.run_list import (
    delete_run,
    find_by_id,
    history,
    is_training,
    list_runs,
    rename_run,
    result_steps,
    run_id,
    summarise,
)
from comfyui_personalize.core.store.runs import Run, find_run, only_here, open_run, run_key

KEY, OTHER = (run_key({"seed": seed}) for seed in range(2))
TENSORS = {"x": torch.arange(3.0)}


@pytest.fixture
def run(tmp_path) -> Run:
    """A run with results at steps 5 and 7, and the state of step 7."""
    made = open_run(tmp_path, "dog", KEY)
    for step in (5, 7):
        made.save_adapter(step, TENSORS, ADAPTER | {"steps": step})
    made.save_state(7, TENSORS, VALUES)
    return made


def test_every_run_is_listed_by_name_and_nothing_else_is(tmp_path, run):
    cat = open_run(tmp_path, "cat", OTHER)
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / ".cache").mkdir(exist_ok=True)
    assert list_runs(tmp_path) == [cat, run] and list_runs(tmp_path / "none") == []


@pytest.mark.parametrize("key", ["../../escaped", "k", 7, None, KEY.upper()])
def test_a_label_whose_key_no_run_has_is_no_run(tmp_path, key):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "run.json").write_text(json.dumps({"key": key}))
    assert list_runs(tmp_path) == []


def test_a_run_whose_label_is_lost_is_listed_by_its_state(tmp_path, run):
    (run.folder / "run.json").unlink()
    assert list_runs(tmp_path) == [run]


def test_a_copied_folder_has_an_id_of_its_own(tmp_path, run):
    shutil.copytree(run.folder, tmp_path / "dog copy")
    ids = [run_id(found) for found in list_runs(tmp_path)]
    assert len(set(ids)) == 2 and [find_by_id(tmp_path, each).name for each in ids] == ["dog", "dog copy"]


def test_an_unknown_id_is_refused(tmp_path, run):
    with pytest.raises(InputError, match="run: got nothing, expected a run that is there"):
        find_by_id(tmp_path, "nothing")


def test_a_summary_tells_steps_size_time_and_what_the_newest_result_says(run):
    found = summarise(run)
    files = list(run.folder.iterdir())
    assert (found.steps, found.trained) == ((5, 7), 7) and found.metadata == ADAPTER | {"steps": 7}
    assert found.size == sum(path.stat().st_size for path in files)
    assert found.modified == max(path.stat().st_mtime for path in files)


def test_a_damaged_result_leaves_the_summary_to_the_one_before(run):
    run.adapter_path(7).write_bytes(b"half")
    assert summarise(run).metadata["steps"] == 5 and result_steps(run.folder) == [5, 7]


def test_a_killed_run_has_its_states_steps_and_losses(tmp_path):
    made = open_run(tmp_path, "dog", KEY)
    assert summarise(made).trained == 0 and history(made) == (0, [], [])
    made.save_state(7, TENSORS, VALUES)
    assert summarise(made).trained == 7 and history(made) == (7, VALUES["losses"], [])
    made.state_path.write_bytes(b"half")
    assert history(made) == (0, [], [])


def test_a_renamed_run_is_found_by_its_key_and_has_all_its_files(tmp_path, run):
    before = sorted(path.name for path in run.folder.iterdir())
    renamed = rename_run(tmp_path, run, " Rex ")
    assert renamed.folder == tmp_path / "Rex" and list_runs(tmp_path) == [renamed]
    assert find_run(tmp_path, "dog", KEY) == renamed
    assert sorted(path.name for path in renamed.folder.iterdir()) == before


@pytest.mark.parametrize(("name", "message"), [
    ("../x", "name: got '../x', expected one folder name"), ("", "name: got ''"),
    ("cat", "name: got 'cat', expected a name that no other run has")])
def test_a_bad_or_taken_name_renames_nothing(tmp_path, run, name, message):
    other = open_run(tmp_path, "cat", OTHER)
    with pytest.raises(InputError, match=message):
        rename_run(tmp_path, run, name)
    assert list_runs(tmp_path) == [other, run]


def test_a_deleted_run_leaves_nothing_and_other_runs_stay(tmp_path, run):
    other = open_run(tmp_path, "cat", OTHER)
    delete_run(tmp_path, run)
    assert list_runs(tmp_path) == [other]
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["cat"]
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_run_that_trains_is_neither_renamed_nor_deleted(tmp_path, run):
    assert not is_training(tmp_path, run)
    with only_here(tmp_path, "dog", KEY):
        assert is_training(tmp_path, run)
        for change in (lambda: rename_run(tmp_path, run, "Rex"), lambda: delete_run(tmp_path, run)):
            with pytest.raises(InputError, match="run: got 'dog', which trains at the moment"):
                change()
    assert not is_training(tmp_path, run) and list_runs(tmp_path) == [run] and summarise(run).steps == (5, 7)


def test_a_deleted_run_is_gone_at_once_though_its_files_cannot_be_removed(tmp_path, run, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    delete_run(tmp_path, run)
    assert list_runs(tmp_path) == [] and find_run(tmp_path, "dog", KEY) is None


def test_a_linked_folder_is_not_deleted(tmp_path, run):
    elsewhere = tmp_path.with_name("elsewhere")
    run.folder.rename(elsewhere)
    run.folder.symlink_to(elsewhere)
    with pytest.raises(InputError, match="whose folder is a link"):
        delete_run(tmp_path, run)
    assert list_runs(tmp_path) == [run]
