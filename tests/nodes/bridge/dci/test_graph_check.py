"""A DCI prompt that is sampled on a plain MODEL is not silent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from comfyui_personalize.nodes import PersonalizeExtension
from comfyui_personalize.nodes.bridge import notices
from comfyui_personalize.nodes.bridge.queue import graph_check
from comfyui_personalize.nodes.bridge.queue.graph_check import plain_model_warnings


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(sampler_model):
    """Loader, DCI Encode, DCI Model, Set Area, a sampler."""
    return {"1": node("CheckpointLoaderSimple", ckpt_name="x"),
            "2": node("PersonalizeDCIEncode", clip=["1", 1], prompt="a sks dog"),
            "3": node("PersonalizeDCIModel", model=["1", 0], omega=1.0),
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


@pytest.mark.parametrize("nodes", [{}, {"2": node("PersonalizeDCIEncode")},
                                   graph(["9", 0]) | {"6": node("PreviewAny")}])
def test_graphs_without_samplers_say_nothing(nodes):
    assert plain_model_warnings(nodes, "2") == []


@pytest.fixture
def server(monkeypatch):
    """A server's queue, and what it sent to clients."""
    sent, handlers = [], []
    fake = SimpleNamespace(on_prompt_handlers=handlers, add_on_prompt_handler=handlers.append,
                           send_sync=lambda *message: sent.append(message))
    for module in (graph_check, notices):
        monkeypatch.setattr(module.PromptServer, "instance", fake, raising=False)
    return SimpleNamespace(handlers=handlers, sent=sent)


def test_a_graph_is_checked_whenever_it_is_queued_so_cached_nodes_are_too(server, caplog):
    """Nothing runs here: the second graph differs only behind the node that encodes."""
    asyncio.run(PersonalizeExtension().on_load())
    check, = server.handlers
    for model in (["5", 0], ["1", 0]):
        request = {"prompt": graph(model), "client_id": "me", "number": 3}
        assert check(dict(request)) == request
    (event, shown, client), = server.sent
    assert event == notices.EVENT and client == "me" and shown["node"] == "2" and "without DCI" in shown["text"]
    assert "KSampler samples this prompt without DCI" in caplog.text


def test_the_queue_is_watched_once(server):
    for _ in range(2):
        graph_check.watch_queue()
    assert len(server.handlers) == 1


@pytest.mark.parametrize("prompt", [None, {}, {"1": {"inputs": {}}}])
def test_a_broken_graph_is_left_to_comfyui(server, prompt):
    assert graph_check.check_queued({"prompt": prompt}) == {"prompt": prompt} and server.sent == []


@pytest.mark.parametrize("prompt", [
    None, [], "x", {"1": None}, {"1": {"class_type": ["PersonalizeDCIEncode"], "inputs": {}}},
    {"1": {"class_type": {}, "inputs": {}}},
    {"1": {"class_type": "PersonalizeDCIEncode"}}, {"1": {"class_type": "PersonalizeDCIEncode", "inputs": None}}])
def test_what_is_no_graph_goes_on_to_comfyui_untouched(prompt):
    request = {"prompt": prompt}
    assert graph_check.check_queued(request) is request
