"""Checkpoint Grid draws what Load Personalization and a sampler make of each step and strength."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from comfy.cli_args import args
from run_node import run_node
from tiny_model import tiny_models
from trainer_rig import photos, train, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.subject import Subject
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.evaluation.checkpoint_grid import CONNECTED, run_choices
from comfyui_personalize.nodes.bridge.model import automatic
from comfyui_personalize.nodes.bridge.model.recipes import recipe_of
from comfyui_personalize.nodes.bridge.sampling.sampling import sample_preview
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings
from comfyui_personalize.nodes.checkpoint_grid import CheckpointGrid
from comfyui_personalize.nodes.load_personalization import LoadPersonalization

pytestmark = pytest.mark.usefixtures("inference_mode")
SIZE = 64
SUBJECTS = tuple(Subject(identifier=word, class_noun=noun, photos=photos(1))
                 for word, noun in (("sks", "dog"), ("zkz", "cat")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Models, and a store with a run that kept two steps and one of two subjects; what the first handed on."""
    folder, models = tmp_path_factory.mktemp("grid"), tiny_models()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        store = use_store(folder, patch)
        outputs = train(models, options=TrainingOptions(keep_every=1), steps=2, learning_rate=1e-2, run_name="dog")
        train(models, steps=1, subject=SUBJECTS, run_name="both")
    return models, store, outputs[5]


@pytest.fixture(autouse=True)
def store(trained, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    shutil.copytree(trained[1], tmp_path / "personalize")
    return tmp_path / "personalize"


def grid(models, **changes: Any):
    widgets = {entry.id: entry.default for entry in CheckpointGrid.define_schema().inputs
               if getattr(entry, "default", None) is not None}
    inputs = {"run": "run: dog", "prompts": "a {V} {noun}\na cat", "size": SIZE, "sampling_steps": 1, "seed": 3,
              "strengths": "0, 1", "cfg": 1.0, "sampler": "euler", "scheduler": "normal"}
    return run_node(CheckpointGrid, model=models[0], clip=models[1], vae=models[2], **widgets | inputs | changes)


def test_each_picture_is_that_of_its_prompt_step_and_strength(trained):
    models = trained[0]
    sheet, pictures = grid(models)
    assert pictures.shape == (8, SIZE, SIZE, 3) and sheet.shape[0] == 1 and float(sheet.max()) <= 1
    order = [(prompt, step, strength) for prompt in ("a sks dog", "a cat") for step in (1, 2) for strength in (0, 1)]
    for picture, (prompt, step, strength) in zip(pictures, order, strict=True):
        if strength:
            model, clip = run_node(LoadPersonalization, name=f"run: dog, step {step}", model=models[0], clip=models[1],
                                   strength_model=strength, strength_clip=strength)[:2]
        else:
            model, clip = models[:2]
        settings = PreviewSettings(prompt=prompt, steps=1, seed=3, cfg=1.0)
        assert torch.equal(picture, sample_preview(model, clip, models[2], settings, SIZE)[0])
    assert not torch.equal(pictures[1], pictures[3])


def test_the_run_of_a_trainer_in_the_graph_is_drawn(trained, store):
    models, _, personalization = trained
    chosen = grid(models, steps="2", strengths="1", prompts="a {V}")[1]
    assert torch.equal(grid(models, run=CONNECTED, personalization=personalization, steps="2", strengths="1",
                            prompts="a {V}")[1], chosen)


def test_what_is_left_open_follows_the_models_recipe(trained):
    recipe = replace(recipe_of(trained[0][0]), sampling_steps=3, cfg=2.0, sampler="heun", scheduler="karras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(automatic, "recipe_of", lambda _: recipe)
        open_ones = {"sampling_steps": 0, "cfg": 0.0, "sampler": "auto", "scheduler": "auto", "prompts": "a cat"}
        found = grid(trained[0], strengths="1", steps="2", **open_ones)[1]
    given = {"sampling_steps": 3, "cfg": 2.0, "sampler": "heun", "scheduler": "karras", "prompts": "a cat"}
    assert torch.equal(found, grid(trained[0], strengths="1", steps="2", **given)[1])


@pytest.mark.parametrize(("changes", "message"), [
    ({"run": CONNECTED}, "run: got the connected run, and none is connected"),
    ({"run": "run: cat"}, "expected a run that has a result"),
    ({"steps": "3"}, "steps: got '3', expected all, or steps that were kept: 1, 2"),
    ({"strengths": "x"}, "strengths: got 'x'"),
    ({"strengths": ", ".join(map(str, range(-10, 11))), "prompts": "a dog\n" * 20}, "840 pictures, expected at most"),
    ({"prompts": " \n "}, "prompts: got an empty text"),
    ({"run": "run: both"}, "for a run of 2 subjects.*Write them out: sks, zkz"),
])
def test_what_cannot_be_drawn_is_refused_before_anything_is_loaded(trained, changes, message):
    with pytest.raises(InputError, match=message):
        grid((object(), object(), object()), **changes)


def test_a_run_without_results_is_refused_when_the_graph_is_queued():
    assert CheckpointGrid.validate_inputs(run="run: dog") is True
    assert CheckpointGrid.validate_inputs(run=CONNECTED) is True
    for name in ("run: cat", "dog", "../x"):
        assert CheckpointGrid.validate_inputs(run=name) is not True


def test_a_new_result_is_drawn_and_the_list_has_every_run_once(store, monkeypatch):
    assert run_choices() == [CONNECTED, "run: both", "run: dog"]
    before = CheckpointGrid.fingerprint_inputs(run="run: dog")
    shutil.copy(store / "dog" / "adapter-000001.safetensors", store / "dog" / "adapter-000005.safetensors")
    assert CheckpointGrid.fingerprint_inputs(run="run: dog") != before
    monkeypatch.setattr(args, "multi_user", True)
    assert run_choices() == [CONNECTED]
