"""A run that a server trained is listed with its graph, loaded by step, drawn as a grid, and its user's alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from comfyui_personalize.tests.e2e.conftest import changed, nodes_of, training
from comfyui_personalize.tools.comfyui_server import Server

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tells two users apart."""
    base = tmp_path_factory.mktemp("users")
    (base / "user").mkdir()
    (base / "user" / "users.json").write_text(json.dumps({"ann_1": "Ann", "ben_2": "Ben"}))
    with Server(base, arguments=("--cpu", "--multi-user")) as running:
        yield running


def asked(server: Server, path: str, user: str, body: Any = None) -> tuple[int, Any]:
    """Status and answer of one of our routes, or of ComfyUI's."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Comfy-User": user}
    try:
        with urlopen(Request(server.client.address + path, data, headers), timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


def train(server: Server, user: str, run_name: str) -> dict[str, Any]:
    """Queue a training as a user, with a workflow beside it, and wait for its end; the run as the list has it."""
    graph = changed(training(run_name, steps=4), "PersonalizeTrainingOptions", keep_every=2)
    extra = {"extra_pnginfo": {"workflow": {"nodes": [], "of": run_name}}, "personalize_user": "ben_2"}
    _, queued = asked(server, "/prompt", user, {"prompt": graph, "extra_data": extra})
    server.client.outputs(queued["prompt_id"])
    return runs(server, user)[run_name]


def runs(server: Server, user: str) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in asked(server, "/api/personalize/runs", user)[1]["runs"]}


@pytest.fixture(scope="module")
def anns(server) -> dict[str, Any]:
    """The run of Ann."""
    return train(server, "ann_1", "anns dog")


def test_a_trained_run_is_listed_with_model_steps_and_thumbnail_and_gives_its_graph_back(server, anns):
    assert anns["base_model"] == "pocket.safetensors" and anns["steps"] == [2, 4] and anns["class_nouns"] == ["dog"]
    assert anns["thumbnail"] and anns["has_graph"] and not anns["is_training"]
    _, graph = asked(server, f"/personalize/runs/{anns['run']}/graph", "ann_1")
    assert graph["workflow"] == {"nodes": [], "of": "anns dog"}
    assert graph["prompt"].keys() == training("anns dog").keys()


def test_each_user_sees_and_changes_their_own_runs_alone(server, anns):
    ben = train(server, "ben_2", "bens dog")
    assert set(runs(server, "ann_1")) == {"anns dog"} and set(runs(server, "ben_2")) == {"bens dog"}
    for path in ("rename", "delete"):
        body = {"run": anns["run"]} | ({"name": "mine"} if path == "rename" else {})
        assert asked(server, f"/personalize/runs/{path}", "ben_2", body)[0] == 404
    assert asked(server, "/personalize/runs", "eve_3")[0] == 400
    assert asked(server, "/personalize/runs/delete", "ben_2", {"run": ben["run"]}) == (200, {"deleted": "bens dog"})
    assert not (server.base / "output" / "personalize" / "bens dog").exists()


def test_steps_of_the_run_are_loaded_and_drawn(server, anns):
    loaders = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "pocket.safetensors"}}}
    links = {"model": ["1", 0], "clip": ["1", 1]}
    load = {"class_type": "PersonalizeLoad", "inputs": links | {
        "name": "run: anns dog, step 2", "strength_model": 1.0, "strength_clip": 1.0}}
    grid = {"class_type": "PersonalizeCheckpointGrid", "inputs": links | {
        "vae": ["1", 2], "run": anns["loads"], "steps": "all", "strengths": "0, 1", "prompts": "a {V} {noun}",
        "size": 64, "sampling_steps": 1, "cfg": 1.0, "seed": 0, "sampler": "euler", "scheduler": "normal",
        "negative_prompt": ""}}
    show = {"class_type": "PreviewAny", "inputs": {"source": ["2", 4]}}
    outputs = server.client.run(loaders | {"2": load, "3": show, "4": grid})
    assert "steps: 2 " in str(outputs["3"]) and len(outputs["4"]["images"]) == 1


def test_the_graph_of_a_listed_run_loads_its_result_again(server, anns):
    _, graph = asked(server, f"/personalize/runs/{anns['run']}/graph", "ann_1")
    (trainer,) = nodes_of(graph["prompt"], "PersonalizeTrainer")
    _, queued = asked(server, "/prompt", "ann_1", {"prompt": graph["prompt"], "extra_data": {}})
    assert "nothing to train" in str(server.client.outputs(queued["prompt_id"])[trainer])
