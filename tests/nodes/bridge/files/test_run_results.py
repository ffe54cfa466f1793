"""A run's results are loaded by their step as its saved file would be, and nothing else of a run is."""

from __future__ import annotations

import shutil
from pathlib import Path

import folder_paths
import pytest
import torch
from comfy.cli_args import args
from run_node import run_node
from tiny_model import tiny_models
from trainer_rig import sample, train, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.files.personalizations import check_file, find_file
from comfyui_personalize.nodes.bridge.files.run_results import list_results
from comfyui_personalize.nodes.load_personalization import LoadPersonalization
from comfyui_personalize.nodes.token_vectors import TokenVectors

pytestmark = pytest.mark.usefixtures("inference_mode")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Models; a run of three steps with learned vectors that kept steps 1 and 2, its folder, and its outputs."""
    folder, models = tmp_path_factory.mktemp("runs"), tiny_models()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        store = use_store(folder, patch)
        vectors = run_node(TokenVectors, identifier="", vectors=2, start="word", start_text="{noun}",
                           learning_rate=0.05, stop_at=1.0, norm="free", std=0.02)[0]
        outputs = train(models, options=TrainingOptions(keep_every=1), token_vectors=vectors, learning_rate=1e-2,
                        run_name="my dog, step 9")
    return models, store, outputs


@pytest.fixture(autouse=True)
def store(trained, tmp_path, monkeypatch) -> Path:
    """The run in a store of the test's own."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    shutil.copytree(trained[1], tmp_path / "personalize")
    return tmp_path / "personalize"


def load(name: str, models):
    return run_node(LoadPersonalization, name=name, model=models[0], clip=models[1], strength_model=1.0,
                    strength_clip=1.0)


def test_the_newest_result_is_the_trainers_own_picture_and_words(trained):
    models, _, outputs = trained
    model, clip, identifier, noun, report = load("run: my dog, step 9", models)
    assert torch.equal(sample(model, clip, "a embedding:sks dog"), sample(*outputs[:2], "a embedding:sks dog"))
    assert (identifier, noun) == ("embedding:sks", "dog") and "Warning" not in report and "steps: 3 " in report


def test_a_kept_step_is_loaded_with_the_vectors_of_that_step(trained, store):
    models = trained[0]
    loaded = load("run: my dog, step 9, step 1", models)
    assert "steps: 1 " in loaded[4]
    newest = load("run: my dog, step 9", models)
    pictures = [sample(*found[:2], "a embedding:sks dog") for found in (loaded, newest)]
    assert not torch.equal(*pictures)
    (store / "my dog, step 9" / "words-000001.safetensors").unlink()
    with pytest.raises(InputError, match="step 1: its learned vectors are missing or damaged"):
        load("run: my dog, step 9, step 1", models)


def test_all_results_are_listed_newest_first_where_users_are_not_told_apart(monkeypatch):
    run = "run: my dog, step 9"
    assert list_results() == [run, f"{run}, step 3", f"{run}, step 2", f"{run}, step 1"]
    monkeypatch.setattr(args, "multi_user", True)
    assert list_results() == [] and check_file(run)["steps"] == 3


@pytest.mark.parametrize("name", ["run: ", "run: cat", "run: ../personalize/my dog, step 9", "run: .cache",
                                  "run: my dog", "run: my dog, step 9, step x", "run: /etc"])
def test_what_is_no_run_is_refused(name):
    with pytest.raises(InputError, match="expected a run that has a result.*Choose one from the list"):
        find_file(name)


def test_a_step_that_was_not_kept_is_refused_with_those_that_were():
    with pytest.raises(InputError, match="expected a step that was kept: 1, 2, 3. Choose one of them, or train"):
        find_file("run: my dog, step 9, step 4")


def test_a_refused_name_is_told_when_the_graph_is_queued():
    assert "a run that has a result" in str(LoadPersonalization.validate_inputs(name="run: cat"))
    assert LoadPersonalization.validate_inputs(name="run: my dog, step 9, step 2") is True
