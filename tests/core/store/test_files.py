"""Files are whole or absent, canonical, and refuse what is not ours."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store import files
from comfyui_personalize.core.store.files import (
    StorageError,
    canonical_json,
    make_folder,
    read_metadata,
    read_tensors,
    tensors_to_bytes,
    write_bytes,
    write_tensors,
)

ROOT = Path(__file__).resolve().parents[3]
TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(1, dtype=torch.int64), "c": torch.zeros(0)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_canonical_json_ignores_the_order_of_keys():
    assert canonical_json({"b": 1, "a": [1.5, None]}) == canonical_json({"a": [1.5, None], "b": 1})
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError):
        canonical_json({"loss": float("nan")})


def test_tensors_and_metadata_survive_the_round_trip(tmp_path):
    write_tensors(tmp_path / "x.safetensors", TENSORS, {"steps": 3, "loss": [0.1]})
    tensors, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"steps": 3, "loss": [0.1]}
    assert all(torch.equal(tensors[name], TENSORS[name]) and tensors[name].dtype == TENSORS[name].dtype
               for name in TENSORS)


def test_equal_content_gives_equal_bytes_in_any_order():
    turned = dict(reversed(TENSORS.items()))
    assert tensors_to_bytes(TENSORS, {"x": 1, "y": 2}) == tensors_to_bytes(turned, {"y": 2, "x": 1})


def test_views_and_shared_storage_are_written_as_they_look(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "x.safetensors", {"row": base[1], "turned": base.T, "all": base}, {})
    tensors, _ = read_tensors(tmp_path / "x.safetensors")
    assert torch.equal(tensors["turned"], base.T) and torch.equal(tensors["row"], base[1])


def test_a_failed_write_keeps_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device.*Free some space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x.bin"]


def test_an_interrupted_write_keeps_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    write_bytes(path, b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x.bin"]


FULL_DISK = """
import resource, sys, torch
sys.path.insert(0, {tests!r})
import conftest
from pathlib import Path
from comfyui_personalize.core.store.files import StorageError, write_tensors
path = Path({path!r})
write_tensors(path, {{"x": torch.zeros(10)}}, {{"step": 1}})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_tensors(path, {{"x": torch.zeros(10000)}}, {{"step": 2}})
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="lacks RLIMIT_FSIZE")
def test_a_real_file_size_limit_keeps_the_old_file(tmp_path):
    path = tmp_path / "state.safetensors"
    script = FULL_DISK.format(tests=str(ROOT / "tests"), path=str(path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert "File too large" in done.stdout and "last good state" in done.stdout, done.stderr
    assert read_metadata(path) == {"step": 1} and names(tmp_path) == ["state.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="lacks file modes")
def test_files_have_the_users_own_permissions_and_survive_folders_that_cannot_be_synced(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    (tmp_path / "plain").touch()
    monkeypatch.setattr(files.os, "open", refuse)
    write_bytes(tmp_path / "x.bin", b"new")
    assert (tmp_path / "x.bin").read_bytes() == b"new"
    assert (tmp_path / "x.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="lacks /proc")
def test_a_read_file_is_not_held_open(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(100_000)}, {})
    tensors, _ = read_tensors(tmp_path / "x.safetensors")  # Windows could not replace it while tensors map it
    assert len(tensors) == 1 and str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        write_bytes(tmp_path / "missing" / "x.bin", b"")


def test_a_file_in_the_place_of_a_folder_is_a_storage_error(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="got .* while saving"):
        make_folder(tmp_path / "file" / "b")


def test_a_foreign_file_is_refused(tmp_path):
    save_file(TENSORS, tmp_path / "lora.safetensors", metadata={"ss_network_dim": "4"})
    with pytest.raises(InputError, match="lora.safetensors, which another program made.*stock LoRA loader"):
        read_metadata(tmp_path / "lora.safetensors")


@pytest.mark.parametrize("cut", [0, 5, 60, -1])
def test_a_corrupt_file_is_refused(tmp_path, cut):
    data = tensors_to_bytes(TENSORS, {"steps": 1})
    (tmp_path / "x.safetensors").write_bytes(data[:cut])
    with pytest.raises(InputError, match="corrupt"):
        read_tensors(tmp_path / "x.safetensors")


def test_broken_metadata_is_refused(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"personalize": "{"})
    with pytest.raises(InputError, match="broken metadata"):
        read_metadata(tmp_path / "x.safetensors")


def test_pickled_files_are_refused_unread(tmp_path):
    torch.save(TENSORS, tmp_path / "x.pt")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": 1}))
    assert zipfile.is_zipfile(tmp_path / "x.pt")
    for name in ("x.pt", "x.pkl"):
        with pytest.raises(InputError, match="pickled"):
            read_metadata(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_metadata(tmp_path / "x.safetensors")
