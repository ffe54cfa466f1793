"""What ComfyUI's own validation says about our nodes when a graph is queued."""

from __future__ import annotations

import asyncio

import execution
import nodes as stock
import pytest
from comfy_extras.nodes_preview_any import PreviewAny

from comfyui_personalize.nodes import NODES


@pytest.fixture(autouse=True)
def known_nodes(monkeypatch):
    for node in NODES:
        monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)
    monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, "PreviewAny", PreviewAny)


def queue(photos=1, **words):
    """Whether ComfyUI takes the graph, and everything that it complains about."""
    words = {"identifier": "sks", "class_noun": "dog", "caption_template": "a {V} {noun}"} | words
    images = {f"images.image{i}": ["1", 0] for i in range(photos)}
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PersonalizeSubjectPhotos", "inputs": {**images, **words}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    valid, error, _, node_errors = asyncio.run(execution.validate_prompt("test", graph, None))
    return valid, str(error) + str(node_errors)


def test_photos_in_growing_sockets_are_taken():
    assert queue(photos=5) == (True, "None{}")


def test_no_photo_is_refused():
    valid, complaint = queue(photos=0)
    assert not valid and "Required input is missing" in complaint and "image0" in complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"identifier": " "}, "identifier: got an empty text, expected a rare word"),
        ({"caption_template": "a dog"}, "caption_template: got 'a dog', expected a text with {V}"),
    ],
)
def test_words_that_cannot_work_are_refused(words, message):
    valid, complaint = queue(**words)
    assert not valid and message in complaint.replace('\\', "")


def test_linked_words_are_taken():
    assert queue(identifier=["1", 0])[1].count("identifier: got") == 0
