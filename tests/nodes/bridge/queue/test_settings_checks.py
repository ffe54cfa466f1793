"""Settings that cannot be meant are refused when the graph is queued, once, at the node that has them."""

from __future__ import annotations

import asyncio
from typing import Any

import execution
import nodes as stock
import pytest
from comfy_extras.nodes_preview_any import PreviewAny

from comfyui_personalize.nodes import NODES
from comfyui_personalize.nodes.bridge.queue.graph_check import check_queued


@pytest.fixture(autouse=True)
def known_nodes(monkeypatch):
    for node in NODES:
        monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)
    monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, "PreviewAny", PreviewAny)


def usual(kind: str, **changed: Any) -> dict[str, Any]:
    """A node as the editor adds it, with some inputs changed."""
    schema = stock.NODE_CLASS_MAPPINGS[kind].GET_SCHEMA()
    inputs = {slot.id: slot.default if slot.default is not None else slot.options[0] for slot in schema.inputs
              if slot.get_io_type() in ("STRING", "BOOLEAN", "INT", "FLOAT", "COMBO")}
    return {"class_type": kind, "inputs": inputs | changed}


def refusals(graph: dict[str, Any]) -> list[tuple[str, str]]:
    """Node and text of everything that ComfyUI complains about when the graph is queued."""
    async def queue() -> dict[str, Any]:
        check_queued({"prompt": graph})
        return (await execution.validate_prompt("test", graph, None))[3]

    found = asyncio.run(queue())
    return [(name, error["details"]) for name, node in found.items() for error in node["errors"]]


def shown(*nodes: dict[str, Any]) -> dict[str, Any]:
    """Nodes 1, 2, ... in a graph, with something that runs the last one."""
    graph = {str(number): node for number, node in enumerate(nodes, 1)}
    return graph | {"show": {"class_type": "PreviewAny", "inputs": {"source": [str(len(nodes)), 0]}}}


@pytest.mark.parametrize("kind", ["PersonalizeTrainingPreview", "PersonalizeTrainingOptions", "PersonalizeDataOptions",
                                  "PersonalizeDCIOptions", "PersonalizeLossWeighting", "MaskedLoss",
                                  "PersonalizeLearnedContexts", "PersonalizeTokenVectors",
                                  "PersonalizeBlankPromptPreservation", "PersonalizeMethodPreset"])
def test_settings_as_the_editor_adds_them_are_taken(kind):
    assert refusals(shown(usual(kind))) == []


@pytest.mark.parametrize(("kind", "wrong", "said"), [
    ("PersonalizeTrainingPreview", {"prompt": "  "}, "prompt: got an empty text"),
    ("PersonalizeTrainingOptions", {"target_pattern": "attn("}, "target_pattern"),
    ("PersonalizeTrainingOptions", {"block_ranks": "nonsense"}, "block_ranks"),
    ("PersonalizeDCIOptions", {"scales": "one, two"}, "scales"),
    ("PersonalizeTokenVectors", {"start_text": ""}, "start_text"),
    ("PersonalizeTokenVectors", {"std": -1.0}, "std"),
    ("PersonalizeTrainingPreview", {"steps": -3}, "steps"),
])
def test_what_the_run_would_refuse_is_refused_once_when_it_is_queued(kind, wrong, said):
    (name, text), *more = refusals(shown(usual(kind, **wrong)))
    assert name == "1" and said in text and more == []


def test_two_of_one_kind_in_a_chain_are_refused_at_the_second_alone():
    graph = shown(usual("MaskedLoss"), usual("MaskedLoss", objective=["1", 0]),
                  usual("PersonalizeLossWeighting", objective=["2", 0]))
    (name, text), *more = refusals(graph)
    assert name == "2" and "objective" in text and more == []


def test_what_hangs_on_something_that_is_drawn_is_left_to_the_run():
    graph = shown(usual("PersonalizeTrainingPreview", prompt=["missing", 0]))
    graph["missing"] = {"class_type": "PreviewAny", "inputs": {"source": ["text", 0]}}
    graph["text"] = usual("PersonalizeTokenVectors")
    assert not [text for name, text in refusals(graph) if name == "1" and "prompt: got" in text]


@pytest.mark.parametrize(("resolution", "size", "is_refused"), [(512, 256, True), (256, 256, False), (0, 256, False)])
def test_class_images_of_another_size_than_the_run_are_refused_when_both_are_typed(resolution, size, is_refused):
    from comfyui_personalize.core.errors import InputError
    from comfyui_personalize.nodes.bridge.queue.settings_checks import check_class_image_sizes, remember

    graph = {"prior": usual("PriorSampleGen", size=size), "train": usual("PersonalizeTrainer", resolution=resolution),
             "keep": usual("PersonalizePriorPreservation", prior=["prior", 0])}
    graph["train"]["inputs"]["objective"] = ["keep", 0]
    remember(graph)
    try:
        if is_refused:
            with pytest.raises(InputError, match="resolution: got 512, and class images of 256 pixels"):
                check_class_image_sizes("train")
        else:
            check_class_image_sizes("train")
    finally:
        remember({})
