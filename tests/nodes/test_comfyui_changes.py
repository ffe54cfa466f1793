"""Loading the extension changes what its list says, nothing else, and takes it back; docs/comfyui_changes.md is the
list (WRITE_DOCS=1 writes it)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comfy import clip_vision

from comfyui_personalize.nodes import NODES, comfyui_changes
from comfyui_personalize.nodes.comfyui_changes import CHANGES, Change, make_changes
from comfyui_personalize.tools.comfyui_server import FOLDERS
from comfyui_personalize.tools.install_comfyui import comfyui_directory

DOCS = Path(__file__).parents[2] / "docs" / "comfyui_changes.md"
HEADER = """# What the extension changes in ComfyUI

Written by `WRITE_DOCS=1 pytest tests/nodes/test_comfyui_changes.py` from `nodes/comfyui_changes.py`. A test compares
everything that ComfyUI's modules and classes hold before the extension is loaded, with it, and after all was taken
back.

| When ComfyUI starts | Why | Undone |
|---|---|---|
"""
FOOTER = """
All of it but the photos is in memory: without the extension's folder the next start is as before. Nodes, help pages,
templates and the pop-ups for warnings are registered in the ways that ComfyUI has for them. Without the folder `pocket`
the first three rows are left out, with a line in the log.

While a node runs: training turns `comfy.model_management.in_training` on and puts its adapter and hooks into the loaded
model, and takes all of it out at the end, and at an error. The model's weights become normal tensors over the same
memory, bit for bit, and stay so. Results and DCI go into clones of MODEL and CLIP.
"""
POCKET = {"comfy.clip_vision.load_clipvision_from_sd", "comfy.supported_models.models"}
OTHERS = {"PromptServer.instance.on_prompt_handlers", "PromptServer.instance.routes",
          "folder_paths.folder_names_and_paths"}


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """What `comfyui_probe` finds without the pocket's folder and with it, its base directory, and its log."""
    base = tmp_path_factory.mktemp("probed")
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True)
    probe = Path(__file__).with_name("comfyui_probe.py")
    done = subprocess.run([sys.executable, str(probe), str(comfyui_directory()), str(base)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    without, whole = map(json.loads, done.stdout.splitlines()[-2:])
    return without, whole, base, done.stderr


def test_loading_changes_what_is_listed_alone_once_and_all_of_it_is_taken_back(probed):
    _, found, base, _ = probed
    assert set(found["changed"]) == POCKET | OTHERS
    assert found["again"] == [] and found["left"] == []
    assert list((base / "input").glob("personalize_*.png"))


def test_every_node_is_there_without_the_pockets_folder_and_the_log_says_what_is_not(probed):
    found, _, _, log = probed
    assert found["nodes"] == [node.__name__ for node in NODES]
    assert set(found["changed"]) == OTHERS and found["left"] == []
    assert log.count("Personalize goes on without this") == 2 * 3  # three changes, started twice; none with the folder


@pytest.mark.parametrize(("error", "said"), [(OSError("read-only"), "a list (OSError: read-only)"),
                                             (ValueError("another version"), "a list\nTraceback")])
def test_a_change_that_fails_in_the_middle_is_taken_back_and_the_others_are_made(monkeypatch, caplog, error, said):
    first, second = ["theirs"], []

    def half():
        first.append("ours")
        raise error

    def change(make, known):
        return Change(what="a list", why="", undone="", make=lambda: comfyui_changes._adding(make, known))

    monkeypatch.setattr(comfyui_changes, "CHANGES",
                        (change(half, first), change(lambda: second.append("ours"), second)))
    undo = make_changes()
    assert (first, second) == (["theirs"], ["ours"])
    assert f"goes on without this: {said}" in caplog.text
    undo()
    undo()
    assert (first, second) == (["theirs"], [])


def test_what_was_there_before_or_was_taken_out_by_others_stays_as_it_is():
    known = ["theirs", "ours"]
    comfyui_changes._adding(lambda: None, known)()
    assert known == ["theirs", "ours"]
    undo = comfyui_changes._adding(lambda: known.append("another"), known)
    known.remove("another")
    undo()
    assert known == ["theirs", "ours"]


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_the_reader_of_image_towers_is_put_back_unless_another_extension_wrapped_it(is_wrapped, monkeypatch):
    def stock(sd, prefix="", convert_keys=False):
        return None

    monkeypatch.setattr(clip_vision, "load_clipvision_from_sd", stock)
    undo = comfyui_changes._pocket_image_tower()
    ours = clip_vision.load_clipvision_from_sd
    assert ours is not stock and ours({}) is None

    def theirs(*arguments):
        return ours(*arguments)

    if is_wrapped:
        monkeypatch.setattr(clip_vision, "load_clipvision_from_sd", theirs)
    undo()
    assert clip_vision.load_clipvision_from_sd is (theirs if is_wrapped else stock)


def test_the_page_on_changes_is_their_list():
    rows = [f"| {change.what} | {change.why} | {change.undone} |" for change in CHANGES]
    text = HEADER + "\n".join(rows) + "\n" + FOOTER
    if os.environ.get("WRITE_DOCS"):
        DOCS.write_text(text, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == text, "run it with WRITE_DOCS=1"
