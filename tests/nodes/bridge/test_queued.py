"""The graph that runs is found with its node, its user and its base model, whatever else a graph may hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from comfy.cli_args import args
from comfy_execution.utils import CurrentNodeContext
from server import PromptServer

from comfyui_personalize.nodes.bridge.queued import USER, base_model, running_graph

PROMPT = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
          "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "lora_name": "style.safetensors"}},
          "3": {"class_type": "PersonalizeTrainer", "inputs": {"model": ["2", 0], "run_name": "dog"}}}
EXTRA = {"extra_pnginfo": {"workflow": {"nodes": []}}, USER: "ann", "client_id": "c"}


def serve(monkeypatch: pytest.MonkeyPatch, *running: Any) -> None:
    queue = SimpleNamespace(get_current_queue_volatile=lambda: (list(running), []))
    monkeypatch.setattr(PromptServer, "instance", SimpleNamespace(prompt_queue=queue), raising=False)


def test_the_running_graph_is_that_of_the_node_that_runs(monkeypatch):
    monkeypatch.setattr(args, "multi_user", True)
    serve(monkeypatch, (0, "other", {}, {}, [], {}), (1, "this", PROMPT, EXTRA, [], {}))
    with CurrentNodeContext("this", "3"):
        found = running_graph()
    assert found is not None and (found.node, found.user) == ("3", "ann")
    assert found.kept == {"prompt": PROMPT, "workflow": {"nodes": []}}
    monkeypatch.setattr(args, "disable_metadata", True)
    assert found.kept == {}


def test_a_user_that_a_client_made_up_is_none_where_users_are_not_told_apart(monkeypatch):
    serve(monkeypatch, (1, "this", PROMPT, EXTRA, [], {}))
    with CurrentNodeContext("this", "3"):
        found = running_graph()
    assert found is not None and found.user == ""


@pytest.mark.parametrize("extra", [{}, None, {"extra_pnginfo": None}, {"extra_pnginfo": {"workflow": 7}, USER: 7}])
def test_a_graph_without_a_workflow_is_one_all_the_same(monkeypatch, extra):
    monkeypatch.setattr(args, "multi_user", True)
    serve(monkeypatch, (1, "this", PROMPT, extra, [], {}))
    with CurrentNodeContext("this", "3"):
        found = running_graph()
    assert found is not None and (found.workflow, found.user, found.kept) == (None, "", {"prompt": PROMPT})


def test_outside_of_a_server_no_graph_runs(monkeypatch):
    serve(monkeypatch, (1, "this", PROMPT, EXTRA, [], {}))
    assert running_graph() is None
    monkeypatch.setattr(PromptServer, "instance", None, raising=False)
    with CurrentNodeContext("this", "3"):
        assert running_graph() is None


@pytest.mark.parametrize(("prompt", "name"), [
    (PROMPT, "sd15.safetensors"),
    ({"3": {"inputs": {"model": ["3", 0]}}}, ""),
    ({"3": {"inputs": {"model": ["9", 0]}}}, ""),
    ({"3": {"inputs": 7}}, ""), ({"3": None}, ""), ({}, ""),
    ({"3": {"inputs": {"unet_name": "flux.safetensors", "weight_dtype": "default"}}}, "flux.safetensors"),
    ({"3": {"inputs": {"unet_name": ["1", 0]}}}, "")])
def test_the_base_model_is_the_file_at_the_beginning_of_the_models_links(prompt, name):
    assert base_model(prompt, "3") == name
