"""A run that is killed, or whose disk fills up, goes on to bitwise the same end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_model import tiny_models
from trainer_rig import Untouched, equal, train, use_store

from comfyui_personalize.core import files
from comfyui_personalize.core.config import TrainingOptions
from comfyui_personalize.core.files import StorageError, read_tensors
from comfyui_personalize.nodes.bridge.model import ComfyDenoiser

pytestmark = [pytest.mark.usefixtures("inference_mode"),
              pytest.mark.skipif(not hasattr(os, "fork"), reason="lacks fork")]
STEPS = 5
OPTIONS = TrainingOptions(save_every=2, text_encoder_rate=1e-4, accumulation=2)


@pytest.fixture
def store(tmp_path, monkeypatch):
    return use_store(tmp_path, monkeypatch)


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
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def dying(owner: object, name: str, call: int) -> Callable[..., object]:
    """The owner's function, which kills the process at its n-th call."""
    original, calls = getattr(owner, name), []

    def function(*arguments, **settings):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **settings)

    return function


# Files in order: label, photos' latents, states at steps 2, 4 and 5, adapter; each is synced, then its folder.
MOMENTS = {
    "in the first forward": (ComfyDenoiser, "__call__", 1),
    "in the third step's second micro-step": (ComfyDenoiser, "__call__", 6),
    "while syncing the second state": (files.os, "fsync", 7),
    "before the second state replaces the first": (files.os, "replace", 4),
    "between the last state and the adapter": (files.os, "replace", 6),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_same_bits(store, monkeypatch, whole, moment):
    owner, name, call = MOMENTS[moment]
    models = tiny_models()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(owner, name, call))
        assert in_child(lambda: run(models)) == signal.SIGKILL
    resumed = run(models)
    assert equal(resumed[2], whole[2]) and resumed[3] == whole[3]
    assert not list(store.rglob("*.tmp"))


def test_two_kills_in_one_run_resume_to_the_same_bits(store, monkeypatch, whole):
    models = tiny_models()
    for call in (7, 6):
        with monkeypatch.context() as patch:
            patch.setattr(ComfyDenoiser, "__call__", dying(ComfyDenoiser, "__call__", call))
            assert in_child(lambda: run(models)) == signal.SIGKILL
    resumed = run(models)
    assert "resumed from step 4" in resumed[6] and equal(resumed[2], whole[2])


def limit_file_size(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_names_itself_and_keeps_the_last_good_state(store, whole):
    models = tiny_models()
    run(models, steps=2)
    state = next(store.glob("*/state.safetensors"))

    def with_a_full_disk() -> None:
        limit_file_size(10_000)
        with Untouched(models), pytest.raises(StorageError, match="File too large while saving.*Free some space"):
            run(models)

    assert in_child(with_a_full_disk) == 0
    assert read_tensors(state)[1]["step"] == 2 and not list(store.rglob("*.tmp"))
    resumed = run(models)
    assert "resumed from step 2" in resumed[6] and equal(resumed[2], whole[2])


def test_a_damaged_state_means_training_again_to_the_same_bits(store, whole):
    models = tiny_models()
    run(models)
    path = Path(next(store.glob("*/state.safetensors")))
    path.write_bytes(path.read_bytes()[:1000])
    again = run(models)
    assert "trained 5 steps" in again[6] and equal(again[2], whole[2]) and again[3] == whole[3]
