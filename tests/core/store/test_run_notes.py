"""Notes about a run are there for people: what cannot be read or written costs nothing."""

import errno
import json
import math
import os

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store import files
from comfyui_personalize.core.store.run_notes import (
    ABOUT,
    GRAPH,
    THUMBNAIL,
    About,
    forget_user,
    keep_thumbnail,
    note_run,
    read_about,
    read_graph,
)
from comfyui_personalize.core.store.runs import find_run, open_run, run_key

KEY = run_key({"seed": 0})
PROMPTS = {"prompt": {"1": {"class_type": "A", "inputs": {}}}, "workflow": {"nodes": []}}


def test_notes_come_back_as_they_were_written(tmp_path):
    note_run(tmp_path, "sd15.safetensors", "ann", PROMPTS)
    assert read_about(tmp_path) == About(base_model="sd15.safetensors", users=("ann",))
    assert read_graph(tmp_path) == PROMPTS


def test_users_gather_the_newest_graph_stays_and_a_known_model_is_not_forgotten(tmp_path):
    note_run(tmp_path, "sd15.safetensors", "ben", PROMPTS)
    for user in ("ann", "ann", ""):
        note_run(tmp_path, "", user, {"prompt": {"2": {}}})
    assert read_about(tmp_path) == About(base_model="sd15.safetensors", users=("ann", "ben"))
    assert read_graph(tmp_path) == {"prompt": {"2": {}}}
    forget_user(tmp_path, "ben")
    assert read_about(tmp_path).users == ("ann",)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"users": 7}', b'{"users": [7]}', b'{"base_model": {}}', b"\xff",
                                  b'{"version": 99}', b"[" * 9000])
def test_notes_that_cannot_be_read_are_none(tmp_path, data):
    (tmp_path / ABOUT).write_bytes(data)
    (tmp_path / GRAPH).write_bytes(data if b"users" not in data else b"{")
    assert read_about(tmp_path) == About()
    assert read_graph(tmp_path) == {}


@pytest.mark.parametrize("graph", [{}, {"prompt": math.nan}, {"prompt": {1, 2}}])
def test_a_graph_that_is_no_json_is_not_kept(tmp_path, graph):
    note_run(tmp_path, "sd15.safetensors", "", graph)
    assert not (tmp_path / GRAPH).exists() and read_about(tmp_path).base_model == "sd15.safetensors"


def test_a_full_disk_takes_no_notes_and_harms_nothing(tmp_path, monkeypatch, caplog):
    run = open_run(tmp_path, "dog", KEY)

    def fill(file, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_fill", fill)
    note_run(run.folder, "sd15.safetensors", "ann", PROMPTS)
    keep_thumbnail(run.folder, b"jpeg")
    assert sorted(path.name for path in run.folder.iterdir()) == ["run.json"]
    assert caplog.text.count("A note about a run is left out: ") == 3


def test_notes_are_no_part_of_a_run(tmp_path):
    run = open_run(tmp_path, "dog", KEY)
    note_run(run.folder, "sd15.safetensors", "ann", PROMPTS)
    keep_thumbnail(run.folder, b"jpeg")
    assert (run.folder / THUMBNAIL).read_bytes() == b"jpeg"
    assert open_run(tmp_path, "other", KEY) == run == find_run(tmp_path, "dog", KEY)
    assert json.loads((run.folder / "run.json").read_text())["key"] == KEY and run.results() == []
    with pytest.raises(InputError):
        files.read_metadata(run.folder / ABOUT)
