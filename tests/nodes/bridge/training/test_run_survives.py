"""A run that is killed, or whose disk fills up, goes on to bitwise the same end."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import pytest
import torch
from tiny_model import tiny_models
from trainer_rig import CancelAt, Untouched, equal, sample, train, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store import files, runs
from comfyui_personalize.core.store.files import StorageError, read_tensors
from comfyui_personalize.core.training import run as training_run
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
from comfyui_personalize.nodes.bridge.progress import Progress

pytestmark = [pytest.mark.usefixtures("inference_mode"),
              pytest.mark.skipif(not hasattr(os, "fork"), reason="lacks fork")]
STEPS = 5
Interrupted = comfy.model_management.InterruptProcessingException
OPTIONS = TrainingOptions(save_every=2, text_encoder_rate=1e-4, accumulation=2)


def run(models, steps: int = STEPS):
    return train(models, steps=steps, options=OPTIONS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run gives."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        use_store(tmp_path_factory.mktemp("whole"), patch)
        return run(tiny_models())


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its signal number if it was killed, 0 if it ended well."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - the child says what it was, and ends
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def dying(owner: object, name: str, call: int, about: str = "") -> Callable[..., object]:
    """The owner's function, which kills the process at its n-th call (about a file of that name)."""
    original, calls = getattr(owner, name), []

    def function(*arguments, **settings):
        if about in f"{arguments} {[getattr(argument, 'name', '') for argument in arguments]}":
            calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **settings)

    return function


# States are saved at steps 2, 4 and 5, the adapter at step 5 before the last of them.
MOMENTS = {
    "in the first forward": (ComfyDenoiser, "__call__", 1, ""),
    "in the third step's second micro-step": (ComfyDenoiser, "__call__", 6, ""),
    "before the run's folder has a label": (files.os, "replace", 1, "run.json"),
    "before a text is kept": (files.os, "replace", 1, ".cache"),
    "while writing the second state": (files, "_fill", 2, "state.safetensors"),
    "before the second state replaces the first": (files.os, "replace", 2, "state.safetensors"),
    "before the adapter gets its name": (files.os, "replace", 1, "adapter-000005"),
    "between the adapter and the last state": (files.os, "replace", 3, "state.safetensors"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_same_bits(store, monkeypatch, whole, moment):
    owner, name, call, about = MOMENTS[moment]
    models = tiny_models()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(owner, name, call, about))
        assert in_child(lambda: run(models)) == signal.SIGKILL
    resumed = run(models)
    assert equal(resumed[2], whole[2]) and resumed[3] == whole[3]
    assert not list(store.rglob("*.tmp")) and [path.name for path in store.glob("[!.]*")] == ["test"]


def test_two_kills_in_one_run_resume_to_the_same_bits(store, monkeypatch, whole):
    models = tiny_models()
    for call in (7, 6):
        with monkeypatch.context() as patch:
            patch.setattr(ComfyDenoiser, "__call__", dying(ComfyDenoiser, "__call__", call))
            assert in_child(lambda: run(models)) == signal.SIGKILL
    resumed = run(models)
    assert "resumed from step 4" in resumed[6] and equal(resumed[2], whole[2])


# A disk that takes no more

def failing(about: str, first: int = 1, last: int = 999) -> Callable[..., None]:
    """`_fill`, which finds the disk full from the first to the last file of that name."""
    original, calls = files._fill, []

    def fill(file, data):
        if about in file.name:
            calls.append(1)
            if first <= len(calls) <= last:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file, data)

    return fill


def saved(store: Path) -> list[str]:
    """The results that the run store has."""
    return sorted(path.name for path in store.glob("test/*-*.safetensors"))


def test_a_state_that_never_fits_ends_no_run_and_the_adapter_is_kept(store, monkeypatch, whole):
    models = tiny_models()
    monkeypatch.setattr(files, "_fill", failing("state.safetensors"))
    with Untouched(models):
        outputs = run(models)
    assert equal(outputs[2], whole[2]) and outputs[3] == whole[3]
    assert "Warning: the training state could not be saved (No space left on device in" in outputs[6]
    assert saved(store) == ["adapter-000005.safetensors"] and not list(store.rglob("*.tmp"))


def test_a_state_that_fits_again_later_leaves_no_warning_and_no_stopgap(store, monkeypatch, whole):
    models = tiny_models()
    monkeypatch.setattr(files, "_fill", failing("state.safetensors", last=2))
    outputs = run(models)
    assert equal(outputs[2], whole[2]) and "Warning" not in outputs[6]
    assert saved(store) == ["adapter-000005.safetensors"] and (store / "test" / "state.safetensors").exists()


def test_while_the_state_does_not_fit_the_newest_adapter_stands_for_it(store, monkeypatch):
    models = tiny_models()
    monkeypatch.setattr(files, "_fill", failing("state.safetensors"))

    def die_at_step_five() -> None:
        monkeypatch.setattr(ComfyDenoiser, "__call__", dying(ComfyDenoiser, "__call__", 10))
        run(models)

    assert in_child(die_at_step_five) == signal.SIGKILL
    assert saved(store) == ["adapter-000004.safetensors"]


def test_the_last_result_takes_the_room_of_the_one_that_stood_for_a_state(store, monkeypatch, whole):
    models = tiny_models()
    run(models)
    adapter = (store / "test" / "adapter-000005.safetensors").stat().st_size
    shutil.rmtree(store / "test")
    disk = sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) + adapter * 3 // 2
    original = files._fill

    def fill(file, data):
        if len(data) + sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) > disk:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file, data)

    monkeypatch.setattr(files, "_fill", fill)
    outputs = run(models)
    assert equal(outputs[2], whole[2]) and "the result could not be saved" not in outputs[6]
    assert saved(store) == ["adapter-000005.safetensors"]


def test_a_result_whose_state_never_fitted_is_loaded_and_says_so(store, monkeypatch, whole):
    models = tiny_models()
    with monkeypatch.context() as patch:
        patch.setattr(files, "_fill", failing("state.safetensors"))
        run(models)
    again = run(models)
    assert "loaded 5 steps, nothing to train" in again[6] and "losses are known for 0 of 5 steps" in again[6]
    assert equal(again[2], whole[2])


def test_a_disk_that_takes_nothing_still_hands_on_the_model(store, monkeypatch, whole):
    models = tiny_models()
    open_run = training_run.open_run

    def then_full(*arguments):
        found = open_run(*arguments)
        monkeypatch.setattr(files, "_fill", failing(""))
        return found

    monkeypatch.setattr(training_run, "open_run", then_full)
    outputs = run(models)
    assert equal(outputs[2], whole[2]) and not torch.equal(sample(*outputs[:2]), sample(*models[:2]))
    assert "Warning: the result could not be saved (No space left on device in" in outputs[6]
    assert "Save Personalization" in outputs[6] and saved(store) == []
    monkeypatch.undo()


@pytest.mark.parametrize(("full_for", "error", "step"), [("state.", Interrupted, 2), ("adapter-", StorageError, 3),
                                                         ("safetensors", StorageError, 2)])
def test_a_cancel_on_a_full_disk_keeps_what_fits_and_tells_where_the_result_does_not(
        store, monkeypatch, whole, full_for, error, step):
    models = tiny_models()
    run(models, steps=2)
    with monkeypatch.context() as patch:
        CancelAt(patch, 3)
        patch.setattr(files, "_fill", failing(full_for))
        with Untouched(models), pytest.raises(error):
            run(models)
    assert read_tensors(store / "test" / "state.safetensors")[1]["step"] == step
    assert ("adapter-000003.safetensors" in saved(store)) == (full_for == "state.")
    resumed = run(models)
    assert f"resumed from step {step}" in resumed[6] and equal(resumed[2], whole[2])


def test_a_run_whose_folder_vanishes_goes_on_in_a_new_one(store, monkeypatch, whole):
    models = tiny_models()
    shown = Progress.show

    def show(progress, number, picture=None):
        if number in (3, 5):
            shutil.rmtree(store)
        shown(progress, number, picture)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "show", show)
        outputs = run(models)
    assert equal(outputs[2], whole[2]) and "Warning" not in outputs[6]
    assert saved(store) == ["adapter-000005.safetensors"]
    assert "loaded 5 steps, nothing to train" in run(models)[6]


def limit_file_size(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_real_limit_of_file_sizes_keeps_the_last_good_state_and_the_run_goes_on(store, whole):
    models = tiny_models()
    run(models, steps=2)

    def with_a_full_disk() -> None:
        limit_file_size(10_000)
        outputs = run(models)
        assert "File too large in" in outputs[6] and equal(outputs[2], whole[2])

    assert in_child(with_a_full_disk) == 0
    assert read_tensors(store / "test" / "state.safetensors")[1]["step"] == 2 and not list(store.rglob("*.tmp"))
    resumed = run(models)
    assert "resumed from step 2" in resumed[6] and equal(resumed[2], whole[2])


# Files that were damaged

def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-7] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
def test_with_a_damaged_state_a_result_still_loads_and_training_over_it_is_refused(store, whole, damage):
    models = tiny_models()
    run(models)
    state = store / "test" / "state.safetensors"
    damage(state)
    again = run(models)
    assert "loaded 5 steps, nothing to train" in again[6] and "Remove that file" in again[6]
    assert equal(again[2], whole[2])
    told = r"output/\S*test/state\.safetensors"
    with pytest.raises(InputError, match=rf"{told}.*or one of its results: steps 5. Remove that file .*{told}"):
        run(models, steps=6)
    state.unlink()
    assert "trained 6 steps" in run(models, steps=6)[6]


def test_a_damaged_state_without_any_result_is_made_again(store, whole):
    models = tiny_models()
    run(models)
    cut(store / "test" / "state.safetensors")
    (store / "test" / "adapter-000005.safetensors").unlink()
    again = run(models)
    assert "trained 5 steps" in again[6] and equal(again[2], whole[2]) and again[3] == whole[3]


def test_a_damaged_result_is_made_again_from_the_state(store, whole):
    models = tiny_models()
    run(models)
    adapter = store / "test" / "adapter-000005.safetensors"
    before = adapter.read_bytes()
    flip(adapter)
    again = run(models)
    assert "trained 0 steps" in again[6] and equal(again[2], whole[2]) and adapter.read_bytes() == before


def test_a_run_that_another_process_trains_is_refused(store, monkeypatch):
    models = tiny_models()
    release, told = os.pipe()
    child = os.fork()
    if child == 0:  # trains, and stands still in its first forward until it is told to go on
        def wait(*_, **__):
            os.write(told, b"x")
            signal.pause()

        monkeypatch.setattr(ComfyDenoiser, "__call__", wait)
        run(models)
        os._exit(0)
    try:
        os.read(release, 1)
        monkeypatch.setattr(training_run, "only_here", functools.partial(runs.only_here, seconds=0.2))
        with pytest.raises(InputError, match="run_name: got 'test', which another ComfyUI trains"):
            run(models)
        assert "trained 1 steps" in train(models, steps=1, options=OPTIONS, seed=9)[6]  # another run is free
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert "trained 5 steps" in run(models)[6]
