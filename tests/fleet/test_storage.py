"""Folders and URLs alike; a store that fails now and then; files that are whole or not there."""

from __future__ import annotations

import errno
import uuid
from pathlib import Path

import pytest

from comfyui_personalize.fleet import storage
from comfyui_personalize.fleet.storage import Storage, is_url, patiently, resolve


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    return str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}"


def test_what_is_written_is_read_listed_and_replaced(place, tmp_path):
    store = Storage(place)
    store.write("a/b.txt", b"one")
    store.write("a/b.txt", b"two")
    (tmp_path / "source.bin").write_bytes(b"three")
    store.put("c.bin", tmp_path / "source.bin")
    assert store.read("a/b.txt") == b"two" and store.read("c.bin") == b"three"
    assert store.exists("a/b.txt") and not store.exists("a/c.txt")
    assert {"a/b.txt", "c.bin"} <= set(store.tree()) and "c.bin" in store.names()
    assert not any(name.endswith(".partial") for name in store.tree())


def failing(times, error):
    left = [error] * times
    return lambda: (_ for _ in ()).throw(left.pop()) if left else "done"


def test_a_store_that_fails_now_and_then_is_asked_again():
    assert patiently(failing(5, OSError(errno.EIO, "drive")), "x") == "done"


def test_a_store_that_fails_for_good_says_so():
    with pytest.raises(OSError, match="drive"):
        patiently(failing(6, OSError(errno.EIO, "drive")), "x")


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), PermissionError("no")])
def test_what_time_does_not_mend_fails_at_once(error):
    with pytest.raises(type(error)):
        patiently(failing(1, error), "x")


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    store = Storage(str(tmp_path))
    store.write("x.json", b"old")

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:2])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="full"):
        store.write("x.json", b"newer")
    assert store.read("x.json") == b"old"


def test_paths_are_against_the_plans_folder_and_urls_stay(tmp_path):
    assert resolve("photos", tmp_path) == str(tmp_path / "photos")
    assert resolve("s3://bucket/photos", tmp_path) == "s3://bucket/photos"
    assert is_url("s3://bucket") and not is_url("C:/photos") and not is_url("/photos")
