"""Cancel through the API keeps what was learned."""

from __future__ import annotations

import json
import time

import pytest
from safetensors import safe_open

from comfyui_personalize.tests.e2e.conftest import only, training, workflow
from comfyui_personalize.tools.comfyui_server import GraphInterrupted

STEPS = 4000


def wait_for(happened, seconds: float = 600.0) -> None:
    """Poll until something is true."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_cancel_within_a_step_keeps_a_loadable_file_and_the_server_goes_on(server):
    client, run = server.client, server.base / "output" / "personalize" / "cancelled"
    prompt = client.queue(training("cancelled", steps=STEPS))
    wait_for((run / "state.safetensors").exists)
    client.interrupt()
    with pytest.raises(GraphInterrupted):
        client.outputs(prompt)

    (adapter,) = sorted(run.glob("adapter-*.safetensors"))[-1:]
    with safe_open(adapter, "np") as file:
        steps = json.loads(file.metadata()["personalize"])["steps"]
    assert 0 < steps < STEPS
    target = server.base / "models" / "loras" / "cancelled.safetensors"
    target.write_bytes(adapter.read_bytes())
    assert client.run(stock_lora_graph(target.name))


def stock_lora_graph(name: str):
    """Workflow 4's img2img with the stock Load LoRA in place of ours."""
    graph = workflow(4)
    (loader,) = (number for number, node in graph.items() if node["class_type"] == "PersonalizeLoad")
    inputs = graph[loader]["inputs"]
    graph[loader] = {"class_type": "LoraLoader", "inputs": {
        "lora_name": name, "model": inputs["model"], "clip": inputs["clip"],
        "strength_model": 1.0, "strength_clip": 1.0}}
    for node in graph.values():
        if node["class_type"] == "StringReplace":
            node["inputs"]["replace"] = "sks"
    (saved, *_) = (number for number, node in graph.items() if node["class_type"] == "SaveImage")
    return only(graph, saved)
