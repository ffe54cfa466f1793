"""Example photos come into the user's input folder once, and never again."""

from __future__ import annotations

import shutil

import folder_paths
import pytest

from comfyui_personalize.nodes import examples
from comfyui_personalize.nodes.examples import STAMP, provide_example_photos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    return tmp_path / "input"


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_every_example_photo_is_copied(folder):
    provide_example_photos()
    assert names(folder) == {STAMP, "personalize_dog", *(photo.name for photo in examples.PHOTOS.glob("*.png"))}
    assert names(folder / "personalize_dog") == {f"personalize_dog_{number}.png" for number in (1, 2, 3, 4)}


def test_a_photo_that_the_user_removed_or_changed_is_left_alone(folder):
    provide_example_photos()
    removed, changed, *_ = sorted(folder.glob("*.png"))
    removed.unlink()
    changed.write_bytes(b"mine")
    provide_example_photos()
    assert not removed.exists() and changed.read_bytes() == b"mine"


def test_a_removed_folder_stays_away(folder):
    provide_example_photos()
    shutil.rmtree(folder / "personalize_dog")
    provide_example_photos()
    assert not (folder / "personalize_dog").exists()


def test_a_photo_of_a_later_version_comes_too(folder, tmp_path, monkeypatch):
    provide_example_photos()
    later = tmp_path / "photos"
    later.mkdir()
    (later / "personalize_later.png").write_bytes(b"new")
    monkeypatch.setattr(examples, "PHOTOS", later)
    provide_example_photos()
    assert (folder / "personalize_later.png").read_bytes() == b"new"


def test_a_users_file_of_the_same_name_is_not_overwritten(folder):
    photo = next(examples.PHOTOS.glob("*.png"))
    folder.mkdir()
    (folder / photo.name).write_bytes(b"mine")
    provide_example_photos()
    assert (folder / photo.name).read_bytes() == b"mine"


def test_nothing_is_written_where_everything_was_copied_before(folder):
    provide_example_photos()
    before = (folder / STAMP).stat().st_mtime_ns
    provide_example_photos()
    assert (folder / STAMP).stat().st_mtime_ns == before
