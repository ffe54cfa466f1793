"""Whatever comes over the API: a graph is refused by ComfyUI's own words or ours, never by an exception of our code.

For every input of every node a few hostile values, drawn by a seed, and mixtures; `make test-full` queues all of them.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import random
import re
from functools import cache
from typing import Any

import execution
import nodes as stock
import pytest
from comfy_extras.nodes_preview_any import PreviewAny

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes import NODES
from comfyui_personalize.tests.nodes.run_node import run_node

FEW = 5
MIXTURES = 300
OURS = re.compile(r"\S+ - (\w[\w ]*: got .+, expected .+\. .+\.)(\n.+: got .+, expected .+\. .+\.)*", re.DOTALL)
MISSING = object()
LOOP = asyncio.new_event_loop()
TEXTS = ["", " ", "nan", "-1", "0", "1e400", "\ud800", "\x00", "../../x", "/", "~nobody/x", "{", "{V}", "{noun}{V}",
         "(", "embedding:", "<b>", "sks " * 500, "x" * 1_000_000, "9" * 5000, "#", "a=b", "=", ",", "\n", "١"]
VALUES: list[Any] = [
    MISSING, None, True, False, -1, 0, 1, 7, 10**30, -10**30, 1e308, float("nan"), float("inf"), 0.1,
    [], ["x"], [1, 2, 3], ["nowhere", 0], ["here", 0], ["here", 99], [None, None], [["here", 0], 0], {}, {"a": 1},
    {"__value__": []}, {"__value__": ["x"]}, {"__value__": {"a": None}}, {"__value__": None}, *TEXTS]


def source(io_type: str) -> type:
    """A node with an output of a type."""
    return type("Source", (), {"INPUT_TYPES": classmethod(lambda _: {"required": {}}), "RETURN_TYPES": (io_type,),
                               "FUNCTION": "run", "run": lambda _: (None,)})


@pytest.fixture(autouse=True)
def known_nodes(monkeypatch):
    logging.disable(logging.ERROR)  # ComfyUI logs every refusal
    for node in NODES:
        monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)
        for kind, _ in inputs_of(node).values():
            monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, f"Source {kind}", source(kind))
    monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, "PreviewAny", PreviewAny)
    yield
    logging.disable(logging.NOTSET)


@cache
def inputs_of(node) -> dict[str, tuple[str, dict]]:
    """Type and options of each input by name; of those that grow the first."""
    found = {}
    for group in ("required", "optional"):
        for name, (kind, options, *_) in node.INPUT_TYPES().get(group, {}).items():
            if kind == "COMFY_AUTOGROW_V3":
                template = options["template"]
                inner = next(iter({**template["input"].get("required", {}), **template["input"].get("optional", {})}
                                  .values()))
                found[f"{name}.{template['prefix']}0"] = (inner[0], {})
            else:
                found[name] = ("COMBO", {"options": kind}) if isinstance(kind, list) else (kind, options)
    return found


def good_graph(node) -> dict[str, Any]:
    """Every input filled as a user would."""
    graph: dict[str, Any] = {"here": {"class_type": node.GET_SCHEMA().node_id, "inputs": {}}}
    for name, (kind, options) in inputs_of(node).items():
        if kind in ("INT", "FLOAT", "STRING", "BOOLEAN") and not options.get("forceInput"):
            graph["here"]["inputs"][name] = options["default"]
        elif kind == "COMBO":
            graph["here"]["inputs"][name] = options.get("default", next(iter(options["options"]), "none"))
        else:
            graph[f"source of {name}"] = {"class_type": f"Source {kind}", "inputs": {}}
            graph["here"]["inputs"][name] = [f"source of {name}", 0]
    if node.RETURN_TYPES:
        graph["end"] = {"class_type": "PreviewAny", "inputs": {"source": ["here", 0]}}
    return graph


def put(graph: dict[str, Any], name: str, value: Any) -> None:
    if value is MISSING:
        graph["here"]["inputs"].pop(name, None)
    else:
        graph["here"]["inputs"][name] = copy.deepcopy(value)


def refusals(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """What is said of our node, after ComfyUI's own validation; empty where the graph is taken."""
    answer = LOOP.run_until_complete(execution.validate_prompt("test", graph, None))
    json.dumps(answer[1]), json.dumps(answer[3])  # as the server sends it
    return answer[3].get("here", {}).get("errors", [])


def complaint(graph: dict[str, Any]) -> str | None:
    """What of the answer is neither ComfyUI's own word nor a refusal of ours."""
    for error in refusals(graph):
        if "exception" in error["type"] and any("comfyui_personalize" in line or "/nodes/" in line
                                                for line in error["extra_info"]["traceback"]):
            return f"{error['type']}: {error['details']}"
        if "positional argument" in error["details"] or "unexpected keyword" in error["details"]:
            return error["details"]
        if error["type"] == "custom_validation_failed" and not OURS.fullmatch(error["details"]):
            return error["details"][:300]
    return None


def named(node) -> str:
    return node.GET_SCHEMA().node_id


def values_for(node, name: str, many: bool) -> list[Any]:
    """All hostile values, or a few for each input: others for each."""
    return VALUES if many else random.Random(f"{named(node)} {name}").sample(VALUES, FEW)


@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.full)], ids=["few", "many"])
@pytest.mark.parametrize("node", NODES, ids=named)
def test_hostile_values_in_each_input_are_refused_by_words(node, many):
    found = {}
    for name in (*inputs_of(node), "no_such_input"):
        for value in values_for(node, name, many):
            graph = good_graph(node)
            put(graph, name, value)
            if (said := complaint(graph)) is not None:
                found[name, repr(value)[:60]] = said
    assert found == {}


@pytest.mark.parametrize("node", NODES, ids=named)
def test_no_input_at_all_is_refused_by_words(node):
    graph = good_graph(node)
    graph["here"]["inputs"] = {}
    assert complaint(graph) is None


def test_mixtures_of_hostile_values_are_refused_by_words():
    rng, found = random.Random(0), {}
    for number in range(MIXTURES):
        node = rng.choice(NODES)
        graph, names = good_graph(node), list(inputs_of(node))
        for name in rng.sample(names, min(len(names), rng.randint(2, 6))):
            put(graph, name, rng.choice(VALUES))
        if (said := complaint(graph)) is not None:
            found[number, named(node)] = said
    assert found == {}


@pytest.mark.parametrize(("node_id", "name", "value", "words"), [
    ("PersonalizeTrainer", "steps", -1, "Value -1 smaller than min of 0"),
    ("PersonalizeTrainer", "steps", "many", "Failed to convert"),
    ("PersonalizeTrainer", "resolution", 100, "Value 100 smaller than min of 64 (0 is automatic), or no multiple of 8"),
    ("PersonalizeTrainer", "resolution", 63, "Value 63 smaller than min of 64"),
    ("PersonalizeTrainer", "resolution", 4096, "Value 4096 bigger than max of 2048"),
    ("PersonalizeTrainer", "run_name", "../x", "run_name: got '../x'"),
    ("PersonalizeSuperResolution", "crop", 100, "Value 100 smaller than min of 32, or no multiple of 32"),
    ("PersonalizeSuperResolution", "resolution", 100, "or no multiple of 8"),
    ("PersonalizeEvaluate", "size", 100, "or no multiple of 8"),
    ("PersonalizeRegularizationImages", "size", 100, "or no multiple of 8"),
    ("PersonalizeLoad", "name", 5, "name: got 5, expected a text"),
    ("PersonalizeSubjectPrompts", "kind", "poems", "kind: got 'poems', expected one of"),
])
def test_one_mistake_is_told_once_at_its_own_input(node_id, name, value, words):
    node = next(node for node in NODES if named(node) == node_id)
    graph = good_graph(node)
    put(graph, name, value)
    told = [(error["extra_info"]["input_name"], f"{error['message']} {error['details']}") for error in refusals(graph)
            if node_id != "PersonalizeLoad" or error["type"] == "custom_validation_failed"]
    own = [text for place, text in told if place == name]
    assert len(own) == 1 and words in own[0], told
    if node_id != "PersonalizeSubjectPrompts":
        assert len(told) == 1, told


@pytest.mark.parametrize("resolution", [64, 512, 2048])
def test_whole_steps_are_taken(resolution):
    node = next(node for node in NODES if named(node) == "PersonalizeTrainer")
    graph = good_graph(node)
    put(graph, "resolution", resolution)
    assert refusals(graph) == []


def without_sockets() -> list[Any]:
    """Nodes that need nothing but widgets."""
    plain = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return [node for node in NODES
            if all(isinstance(kind, list) or kind in plain for kind, *_ in node.INPUT_TYPES()["required"].values())]


@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.full)], ids=["few", "many"])
@pytest.mark.parametrize("node", without_sockets(), ids=named)
def test_a_node_of_widgets_alone_runs_or_refuses_by_words_whatever_the_queue_lets_through(node, many):
    found = {}
    for name, (kind, _) in inputs_of(node).items():
        for value in values_for(node, name, many):
            graph = good_graph(node)
            put(graph, name, value)
            if refusals(graph):
                continue
            given = {key: value for key, value in graph["here"]["inputs"].items()
                     if value != [f"source of {key}", 0]}
            try:
                run_node(node, **given)
            except InputError as refusal:
                assert len(str(refusal)) < 5000, (name, repr(value)[:60])
            except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
                found[name, repr(value)[:60]] = repr(error)[:200]
            else:
                if kind == "FLOAT" and value != value:
                    found[name, "nan"] = "taken"
    assert found == {}
