"""Processes that die at any file operation, and processes that race for one output folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from run_store import ADAPTER, VALUES

from comfyui_personalize.core.store.files import write_new_bytes
from comfyui_personalize.core.store.runs import find_run, only_here, open_run, read_cache, run_key, write_cache

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="lacks fork")
KEY = run_key({"seed": 0})
OPERATIONS = ("open", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync")


def work(root: Path, value: float) -> None:
    """Everything that a run writes."""
    with only_here(root, "dog", KEY):
        run = open_run(root, "dog", KEY)
        write_cache(root, "photo", {"x": torch.full((2,), value)})
        run.save_state(7, {"x": torch.full((3,), value)}, VALUES)
        run.save_adapter(7, {"x": torch.full((3,), value)}, ADAPTER)


def die_at(operation: int, root: Path) -> None:
    """Do the work in this process, and kill it before its n-th file operation."""
    done = []

    def counted(original):
        def function(*arguments, **settings):
            done.append(1)
            if len(done) == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **settings)
        return function

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    work(root, 1.0)
    os._exit(0)


def test_death_before_any_file_operation_loses_nothing_and_leaves_nothing(tmp_path):
    deaths = 0
    for operation in range(1, 200):
        root = tmp_path / str(operation)
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                die_at(operation, root)
            os._exit(1)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        deaths += 1
        run = open_run(root, "dog", KEY)
        assert run.name == "dog", operation
        state, adapter, cache = run.load_state(), run.load_adapter(7), read_cache(root, "photo")
        for tensors in (state and state.tensors, adapter and adapter[0], cache):
            assert tensors is None or bool((tensors["x"] == 1).all()), operation
        assert state is not None or adapter is None
        work(root, 1.0)
        found = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        assert found == sorted([".cache/photo.safetensors", f".locks/{KEY}.lock", "dog/adapter-000007.safetensors",
                                "dog/run.json", "dog/state.safetensors"]), operation
    assert deaths > 20


def together(count: int, function, *arguments) -> None:
    """Run the function in as many processes, which all begin at the same moment."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(count)
    processes = [context.Process(target=_at_barrier, args=(barrier, function, number, *arguments))
                 for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * count


def _at_barrier(barrier, function, *arguments) -> None:
    barrier.wait(60)
    function(*arguments)


def open_own(number: int, root: Path) -> None:
    run = open_run(root, "dog", run_key({"seed": number}))
    run.save_adapter(7, {"x": torch.full((3,), float(number))}, ADAPTER)


def test_runs_of_one_name_opened_in_the_same_moment_get_a_folder_each(tmp_path):
    for attempt in range(5):
        root = tmp_path / str(attempt)
        together(4, open_own, root)
        assert sorted(path.name for path in root.glob("[!.]*")) == ["dog", "dog-2", "dog-3", "dog-4"]
        for number in range(4):
            run = find_run(root, "dog", run_key({"seed": number}))
            assert run is not None and json.loads((run.folder / "run.json").read_text())["key"] == run.key
            assert run.load_adapter(7)[0]["x"].tolist() == [number] * 3
        assert not list(root.rglob("*.tmp"))


def train_own(number: int, root: Path) -> None:
    for _ in range(5):
        work(root, 1.0)


def test_one_run_in_several_processes_stays_whole(tmp_path):
    together(4, train_own, tmp_path)
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["dog"] and not list(tmp_path.rglob("*.tmp"))
    run = open_run(tmp_path, "dog", KEY)
    assert run.load_state().tensors["x"].tolist() == [1, 1, 1] and run.load_adapter(7)[0]["x"].tolist() == [1, 1, 1]


def save_new(number: int, path: Path) -> None:
    (path.parent / f"{number}-{write_new_bytes(path, str(number).encode() * 100_000)}").touch()


def test_a_new_file_is_written_by_one_process_alone(tmp_path):
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        together(4, save_new, folder / "dog.bin")
        (winner,) = folder.glob("*-True")
        assert (folder / "dog.bin").read_bytes() == winner.name[0].encode() * 100_000
        assert len(list(folder.glob("*-False"))) == 3 and not list(folder.glob(".*"))
