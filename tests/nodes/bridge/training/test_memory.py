"""A run's memory is estimated before anything is loaded: the fastest way that fits is taken, told, and gone on from."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from families import family_models
from quantised_models import STORED, stored_as
from tiny_model import tiny_models
from trainer_rig import Untouched, equal, photos, subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.memory import LiveBytes
from comfyui_personalize.core.training.memory_plan import RECOMPUTED, RESIDENT, OutOfMemory
from comfyui_personalize.nodes.bridge.photos.photos import with_references
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.bridge.text.encoder import encode
from comfyui_personalize.nodes.bridge.training import memory, run
from comfyui_personalize.nodes.bridge.training.checks import check
from comfyui_personalize.nodes.bridge.training.request import Request
from comfyui_personalize.nodes.bridge.training.run import prepared

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
SIZE = 256


@pytest.fixture(scope="module")
def models():
    with torch.inference_mode():
        return tiny_models()


def plan_of(models, size=SIZE, batch=1, given=None, **options):
    config = TrainingConfig(steps=3, resolution=size, batch=batch, options=TrainingOptions(**options))
    return check(Request(**{"model": models[0], "clip": models[1], "vae": models[2], "subjects": subjects(),
                            "config": config, "run_name": "test"} | (given or {})))


def told_free(monkeypatch, size):
    monkeypatch.setattr(memory, "free_memory", lambda _: int(size))


def check_estimate(plan):
    """The trainer's own step in ComfyUI's own network, counted by its tensors."""
    with prepared(plan) as (trainer, _):
        estimate = trainer.memory_plan
        parameters = trainer.updates.parameters()
        steps = trainer.steps()
        next(steps)
        with LiveBytes() as live:
            next(steps)
    learned = sum(parameter.nbytes for parameter in parameters)
    assert estimate.needed - learned == pytest.approx(live.highest, rel=0.15)


@pytest.mark.parametrize("switch", ["off", "on"])
@pytest.mark.parametrize("kind", ["lora", *(pytest.param(kind, marks=pytest.mark.full)
                                            for kind in ("lokr", "loha", "oft", "full"))])
def test_a_step_takes_what_was_estimated(models, kind, switch):
    adapter = AdapterConfig(kind=kind, rank=4, alpha=4.0, targets="all" if kind == "full" else "attention")
    check_estimate(plan_of(models, gradient_checkpointing=switch, optimizer="sgd", adapter=adapter))


@pytest.mark.full
@pytest.mark.parametrize("switch", ["off", "on"])
@pytest.mark.parametrize("stored", [*STORED, "weight_dtype fp8", "GGUF"])
def test_a_step_on_a_quantised_base_takes_what_was_estimated(stored, switch, tmp_path):
    _, clip, vae = family_models("flux")
    model = stored_as(stored, tmp_path)[0].model
    check_estimate(plan_of((model, clip, vae), gradient_checkpointing=switch, optimizer="sgd",
                           adapter=AdapterConfig(rank=4, alpha=4.0)))


@pytest.mark.full
@pytest.mark.parametrize("switch", ["off", "on"])
def test_a_step_beside_reference_images_takes_what_was_estimated(switch):
    shown = [torch.rand(1, 40, 56, 3)] * 2
    with_shown = {"subjects": subjects(photos=with_references(photos(2), shown))}
    models = family_models("flux")
    options = {"gradient_checkpointing": switch, "optimizer": "sgd", "adapter": AdapterConfig(rank=4, alpha=4.0)}
    check_estimate(plan_of(models, given=with_shown, **options))
    needed = [memory.needs_of(plan_of(models, given=given, **options)).activations.kept for given in ({}, with_shown)]
    assert needed[1] > 1.2 * needed[0]


def test_the_fastest_way_that_fits_is_taken_and_told(models, monkeypatch):
    plan = plan_of(models)
    kept, recomputed = memory.plans(memory.needs_of(plan), "auto")
    assert (kept.name, recomputed.name) == (RESIDENT, RECOMPUTED) and kept.spared > recomputed.spared
    for free, way in ((kept.spared, RESIDENT), (kept.spared - 1, RECOMPUTED), (recomputed.spared, RECOMPUTED)):
        told_free(monkeypatch, free)
        assert memory.memory_plan(plan).name == way
    report = train(models, resolution=SIZE, steps=2)[6]
    assert "memory: gradient checkpointing, " in report and "s a step" in report


def test_an_explicit_choice_wins(models, monkeypatch):
    told_free(monkeypatch, 10 ** 12)
    assert memory.memory_plan(plan_of(models, gradient_checkpointing="on")).name == RECOMPUTED
    plan = plan_of(models, gradient_checkpointing="off")
    told_free(monkeypatch, memory.plans(memory.needs_of(plan), "off")[0].spared)
    assert memory.memory_plan(plan).name == RESIDENT


def test_what_cannot_fit_is_refused_before_anything_is_loaded_and_says_what_would(models, monkeypatch):
    least = memory.plans(memory.needs_of(plan_of(models, batch=4)), "auto")[-1]
    told_free(monkeypatch, 0.6 * least.spared)
    loaded = []
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: loaded.append(1))
    monkeypatch.setattr(type(models[2]), "encode", lambda *_: loaded.append(1))
    monkeypatch.setattr(memory, "_longest_row", lambda plan, _: memory.text_shape(models[1], plan.data.prompts()[0]))
    with pytest.raises(InputError, match="memory: got .* free, expected .*This would fit: a batch of 1"):
        train(models, resolution=SIZE, batch=4)
    assert loaded == []


def test_a_finished_run_loads_where_it_could_not_train(models, monkeypatch):
    first = train(models, steps=2)
    told_free(monkeypatch, 0)
    assert equal(train(models, steps=2)[2], first[2])


def test_a_run_that_ran_out_of_memory_goes_on_in_the_way_that_it_named(models, monkeypatch):
    step, calls = torch.optim.AdamW.step, []

    def fail_in_the_third(optimizer, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(optimizer, *args, **kwargs)

    options = TrainingOptions(save_every=1)
    told_free(monkeypatch, 10 ** 12)
    with monkeypatch.context() as patch, pytest.raises(OutOfMemory, match="Press Run: it goes on with gradient check"):
        patch.setattr(torch.optim.AdamW, "step", fail_in_the_third)
        train(models, steps=4, options=options)
    report = train(models, steps=4, options=options)[6]
    assert "resumed from step 2" in report and "memory: gradient checkpointing, " in report
    told_free(monkeypatch, 2 * 10 ** 12)
    assert "memory: no gradient checkpointing, " in train(models, steps=5, options=options)[6]


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def on_a_card(monkeypatch, free):
    """The device has memory of its own, with so many bytes free."""
    monkeypatch.setattr(memory, "SHARED", ())
    monkeypatch.setattr(memory, "room", lambda _: int(free))


def test_a_model_that_cannot_be_loaded_is_streamed_by_the_next_run(models, monkeypatch):
    on_a_card(monkeypatch, 10 ** 12)
    encode = comfy.model_management.load_models_gpu

    def fail_in_the_network(patchers, *args, **kwargs):
        if models[0] in patchers:
            out_of_memory()
        return encode(patchers, *args, **kwargs)

    expected = (r"Memory was not enough while the model was loaded with no gradient checkpointing \(.* needed by the "
                r"estimate, 1000.0 GB free at the start\)\. Nothing is lost\. Press Run: it goes on with gradient "
                r"checkpointing, the model streamed, which needs .*\. \(CUDA out of memory\. Tried")
    with Untouched(models), monkeypatch.context() as patch, pytest.raises(OutOfMemory, match=expected):
        patch.setattr(comfy.model_management, "load_models_gpu", fail_in_the_network)
        train(models, steps=2)
    assert "memory: gradient checkpointing, the model streamed, " in train(models, steps=2)[6]


def test_a_loading_that_fails_with_nothing_less_to_load_says_what_the_user_can_do_and_keeps_what_was_learned(
        models, monkeypatch):
    train(models, steps=1)
    with monkeypatch.context() as patch, pytest.raises(OutOfMemory, match="while the model was loaded with no gradient "
                                                       ".* What was learned in 1 steps is kept. Set gradient_check"):
        patch.setattr(comfy.model_management, "load_models_gpu", out_of_memory)
        train(models, steps=2)
    report = train(models, steps=2)[6]
    assert "resumed from step 1" in report and "memory: no gradient checkpointing, " in report


def test_photos_that_cannot_be_encoded_say_so_and_the_plan_stays(models, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OutOfMemory, match="while the photos and texts were encoded. "
                                                       "Nothing is lost. Set gradient_checkpointing"):
        patch.setattr(type(models[2]), "encode", out_of_memory)
        train(models, steps=2, resolution=72)
    assert "memory: no gradient checkpointing, " in train(models, steps=2, resolution=72)[6]


def test_a_last_picture_for_which_memory_is_not_enough_costs_only_itself(models, monkeypatch):
    told = []
    monkeypatch.setattr(run, "sample_preview", out_of_memory)
    monkeypatch.setattr(run, "warn_running_node", told.append)
    with Untouched(models):
        _, _, lora, _, picture, _, report, _ = train(models, preview=PreviewSettings(prompt="a sks dog", every=9))
    assert lora and picture.shape[0] == 1 and "trained 3 steps" in report
    assert told == ["memory was not enough for the last picture; what was learned is complete and handed on "
                    "(CUDA out of memory. Tried to allocate 2.00 GiB)"]


def test_estimating_leaves_the_models_alone(models):
    plan = plan_of(models)
    memory._KNOWN.clear()
    with Untouched(models):
        assert memory.needs_of(plan) is not None


def test_a_network_that_asks_for_content_is_measured_once_it_is_loaded(models, monkeypatch):
    def forward(*_, **__):
        if torch.ones(1).sum() > 0:
            raise RuntimeError("content")

    memory._KNOWN.clear()
    with monkeypatch.context() as patch:
        patch.setattr(models[0].model.diffusion_model, "forward", forward, raising=False)
        assert memory.memory_plan(plan_of(models)) is None


def test_a_text_has_the_shape_of_its_encoding(models):
    for prompt in ("a sks dog", " ".join(["word"] * 100)):
        shape, row = memory.text_shape(models[1], prompt), encode(models[1], prompt)
        assert shape.context.shape == row.context.shape and shape.pooled.shape == row.pooled.shape
