"""What jobs leave in memory: nothing that grows with their number, and no model that was let go."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import comfy.model_management
import folder_paths
import pytest
import torch
from dci_rig import apply_dci, encode, ksample
from families import family_models
from run_node import run_node
from test_super_resolution import personalize
from tiny_model import tiny_models
from tiny_upscaler import upscaler_models
from trainer_rig import CancelAt, photos, subjects, train, use_store

from comfyui_personalize.benchmarks.live_storages import LiveStorages
from comfyui_personalize.core.errors import TrainingDiverged
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.objectives import BasePrior, MaskedLoss, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.core.training import run as training_run
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.core.training.validation import ValidationConfig
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain, PreviewSettings, Validation
from comfyui_personalize.nodes.token_vectors import TokenVectors

pytestmark = pytest.mark.usefixtures("inference_mode")
Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    (tmp_path / "embeddings").mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings",
                        ([str(tmp_path / "embeddings")], folder_paths.supported_pt_extensions))
    return use_store(tmp_path, monkeypatch)


def held_after(job: Callable[[int], object], *counts: int) -> list[tuple[int, int]]:
    """Storages made by jobs 1 .. n that are still alive, and tensors that Python knows, after each of `counts` jobs."""
    found, done = [], 0
    with LiveStorages() as live:
        for count in counts:
            for seed in range(done, count):
                job(seed)
            done, storages = count, live.held().storages
            found.append((storages, sum(torch.is_tensor(value) for value in gc.get_objects())))
    return found


def test_the_default_settings_hold_as_much_after_twice_as_many_jobs():
    models = tiny_models()
    first, last = held_after(lambda seed: train(models, seed=seed), 2, 4)
    assert first == last and first[0] == 0


def test_what_is_handed_on_is_counted():
    models, kept = tiny_models(), []
    first, last = held_after(lambda seed: kept.append(train(models, seed=seed, steps=1)), 1, 2)
    assert 0 < first[0] < last[0]


def words() -> tuple:
    return run_node(TokenVectors, identifier="", vectors=2, start="word", start_text="{noun}", learning_rate=0.05,
                    stop_at=1.0, norm="free", std=0.02)[0]


def everything() -> dict[str, Any]:
    """Settings under which most of the trainer runs."""
    pool = ClassImages(class_noun="dog", prompt="a dog", key="pool", size=64, latents=torch.randn(2, 4, 8, 8))
    objectives = (PriorPreservation(), MaskedLoss(), ObjectSpecificLoss())
    held_out = Validation(config=ValidationConfig(every=1, draws=1), held_out=subjects(photos=photos(1, seed=3)))
    return {"objective": ObjectiveChain(objectives=objectives, class_images=(pool,)), "validation": held_out,
            "subject": subjects(photos=photos(2, masked=True)), "token_vectors": words(),
            "preview": PreviewSettings(prompt="a sks dog", steps=1, every=1),
            "options": TrainingOptions(text_encoder_rate=1e-4, accumulation=2, ema_decay=0.9, save_every=1)}


SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "everything": everything,
    "checkpointing": lambda: {"options": TrainingOptions(gradient_checkpointing="on")},
    "bf16": lambda: {"options": TrainingOptions(precision="bf16")},
    "base prior": lambda: {"objective": ObjectiveChain(objectives=(BasePrior(),))},
    "words alone": lambda: {"token_vectors": words(), "options": TrainingOptions(trains_denoiser=False)},
    "DoRA": lambda: {"options": TrainingOptions(adapter=AdapterConfig(kind="dora"))},
    "full weights": lambda: {"options": TrainingOptions(adapter=AdapterConfig(kind="full"))},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_no_setting_holds_more_after_more_jobs(settings):
    models, changes = tiny_models(), settings()
    first, last = held_after(lambda seed: train(models, seed=seed, steps=1, **changes), 1, 2)
    assert first == last


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_no_joint_attention_holds_more_after_more_jobs(name):
    models = family_models(name)
    first, last = held_after(lambda seed: train(models, seed=seed, steps=1), 1, 2)
    assert first == last and first[0] == 0


def test_a_cancelled_job_leaves_nothing(monkeypatch):
    models = tiny_models()
    CancelAt(monkeypatch, 2)

    def job(seed: int) -> None:
        with suppress(Interrupted):
            train(models, seed=seed)

    first, last = held_after(job, 1, 2)
    assert first == last and first[0] == 0


@pytest.mark.parametrize("error", [TrainingDiverged("NaN"), RuntimeError("out of memory")])
def test_a_job_that_fails_leaves_nothing(monkeypatch, error):
    models = tiny_models()

    def fail(*_: object) -> None:
        raise type(error)(*error.args)

    monkeypatch.setattr(training_run.Loop, "_after", fail)

    def job(seed: int) -> None:
        with suppress(type(error)):
            train(models, seed=seed)

    first, last = held_after(job, 1, 2)
    assert first == last and first[0] == 0


def test_the_upscaler_s_jobs_leave_nothing():
    models = upscaler_models()
    first, last = held_after(lambda seed: personalize(models, seed=seed), 1, 2)
    assert first == last and first[0] == 0


def test_dci_leaves_nothing_after_more_pictures():
    model, clip = tiny_models()[:2]

    def job(_: int) -> None:
        patched, positive = apply_dci(model, clip)
        ksample(patched, positive, encode(clip, ""))

    first, last = held_after(job, 1, 2)
    assert first == last


@pytest.mark.parametrize("settings", [dict, everything, SETTINGS["full weights"]],
                         ids=["default", "everything", "full weights"])
def test_a_model_that_is_let_go_is_gone(settings):
    models = tiny_models()
    train(models, steps=1, **settings())
    parts = [models[0].model.diffusion_model, models[1].cond_stage_model]
    weights = [weakref.ref(weight) for part in parts for weight in part.parameters()]
    del models, parts
    comfy.model_management.unload_all_models()
    gc.collect()
    assert [weight() for weight in weights if weight() is not None] == []
