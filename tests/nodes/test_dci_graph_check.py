"""A DCI prompt that is sampled on a plain MODEL is not silent."""

from __future__ import annotations

import logging

import pytest
from comfy_api.latest import io
from dci_rig import SETTINGS
from tiny_model import tiny_models

from comfyui_personalize.nodes.bridge.graph_check import plain_model_warnings
from comfyui_personalize.nodes.dci_conditioning import DCIConditioning


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(sampler_model):
    """Loader, DCI Encode, DCI Model, Set Area, a sampler."""
    return {"1": node("CheckpointLoaderSimple", ckpt_name="x"),
            "2": node("DCIEncode", clip=["1", 1], prompt="a sks dog"),
            "3": node("DCIModel", model=["1", 0], omega=1.0),
            "4": node("ConditioningSetArea", conditioning=["2", 0], width=64),
            "5": node("LoraLoaderModelOnly", model=["3", 0]),
            "6": node("KSampler", model=sampler_model, positive=["4", 0])}


def test_a_sampler_whose_model_is_patched_is_fine():
    assert plain_model_warnings(graph(["5", 0]), "2") == []


def test_a_sampler_whose_model_is_plain_is_named():
    found, = plain_model_warnings(graph(["1", 0]), "2")
    assert "KSampler samples this prompt without DCI" in found


def test_a_guider_counts_as_the_sampler_and_titles_are_used():
    nodes = {**graph(["5", 0]), "7": {**node("CFGGuider", model=["1", 0], positive=["4", 0]),
                                      "_meta": {"title": "My guider"}}}
    found, = plain_model_warnings(nodes, "2")
    assert found.startswith("My guider")


@pytest.mark.parametrize("nodes", [None, {}, {"2": node("DCIEncode")}, graph(["9", 0]) | {"6": node("PreviewAny")}])
def test_graphs_without_samplers_say_nothing(nodes):
    assert plain_model_warnings(nodes, "2") == []


def test_the_node_warns(caplog):
    model, clip, _ = tiny_models()
    nodes = {"8": node("DCIConditioning", model=["1", 0]), "9": node("KSampler", model=["1", 0], positive=["8", 1])}
    run = DCIConditioning.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.prompt: nodes, io.Hidden.unique_id: "8"}})
    with caplog.at_level(logging.WARNING):
        run.execute(model=model, clip=clip, **SETTINGS)
    assert any("without DCI" in record.message for record in caplog.records)
