"""A training adapter on the trained MODEL alone: pictures come from the checkpoint without it."""

from __future__ import annotations

import pytest

from comfyui_personalize.tests.e2e.conftest import changed, nodes_of, training
from comfyui_personalize.tests.e2e.test_saved_file import latent_graph, sampled
from comfyui_personalize.tools.comfyui_server import GraphFailed

CHECKPOINT = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "pocket.safetensors"}}
PREVIEW = {"class_type": "PersonalizeTrainingPreview", "inputs": {
    "prompt": "a sks dog", "sampler": "euler", "scheduler": "normal", "steps": 2, "cfg": 1.0, "seed": 1, "every": 2,
    "negative_prompt": ""}}


def saved(graph, trainer, name):
    """The graph with a node that keeps its personalization."""
    return {**graph, "save": {"class_type": "PersonalizeSave", "inputs": {
        "personalization": [trainer, 5], "name": name}}}


def lora(name):
    """A saved personalization through a stock node, on the checkpoint's MODEL."""
    return {"class_type": "LoraLoaderModelOnly", "inputs": {
        "model": ["c", 0], "lora_name": f"{name}.safetensors", "strength_model": 1.0}}


def test_the_checkpoint_without_the_training_adapter_samples_and_is_handed_on(server):
    first = training("training_adapter", learning_rate=1e-3)
    (trainer,) = nodes_of(first, "PersonalizeTrainer")
    server.client.run(saved(first, trainer, "training_adapter"))

    graph = {**training("paired"), "c": CHECKPOINT, "adapted": lora("training_adapter"), "preview": PREVIEW}
    graph = changed(graph, "PersonalizeTrainer", model=["adapted", 0], sample_with=["c", 0], preview=["preview", 0])
    outputs = server.client.run(latent_graph([trainer, 0], ["c", 1], saved(graph, trainer, "paired"), "paired"))
    assert len(outputs[trainer]["images"]) >= 1

    server.client.run(latent_graph(["mine", 0], ["c", 1], {"c": CHECKPOINT, "mine": lora("paired")}, "without"))
    both = {"c": CHECKPOINT, "adapted": lora("training_adapter"), "mine": lora("paired")}
    both["mine"]["inputs"]["model"] = ["adapted", 0]
    server.client.run(latent_graph(["mine", 0], ["c", 1], both, "both"))
    assert abs(sampled(server, "paired") - sampled(server, "without")).max() <= 1e-3
    assert abs(sampled(server, "paired") - sampled(server, "both")).max() > 1e-2, "the training adapter was handed on"


def test_a_model_of_another_kind_is_refused_in_words(server):
    graph = {**training("other_kind"), "big": {"class_type": "CheckpointLoaderSimple", "inputs": {
        "ckpt_name": "pocket_upscaler.safetensors"}}}
    graph = changed(graph, "PersonalizeTrainer", sample_with=["big", 0])
    with pytest.raises(GraphFailed, match="sample_with: got a model whose layer"):
        server.client.run(graph)
