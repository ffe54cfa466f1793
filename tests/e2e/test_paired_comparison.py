"""Workflow 17 on a real server: lists of pictures become one page; what cannot be compared is refused."""

from __future__ import annotations

import base64
import json
import re

import pytest

from comfyui_personalize.tests.e2e.conftest import changed, nodes_of, only, workflow
from comfyui_personalize.tests.e2e.test_bad_input import message_of

TITLES = {"base model", "personalized", "with DCI"}


@pytest.fixture(scope="module")
def graph():
    """Two prompts instead of six, and the page alone: beside other outputs, ComfyUI runs those and drops a bad one."""
    graph = changed(workflow(17), "PersonalizeSubjectPrompts", count=2)
    return only(graph, *nodes_of(graph, "PersonalizePairedComparison"))


def test_the_workflow_writes_a_page_with_every_methods_pictures(server, graph):
    outputs = server.client.run(graph)
    (text,) = (node["text"][0] for node in outputs.values() if "comparisons" in str(node.get("text")))
    page = server.base / "output" / "comparisons" / "pocket_dog.html"
    assert str(page) in text
    study = json.loads(re.search(r'id="study">(.*?)</script>', page.read_text(encoding="utf-8"))[1])
    assert study["prompts"] == ["a dog on the beach", "a dog in the snow"]
    names = json.loads(base64.b64decode(study["key"]))
    assert set(names) == TITLES and len(study["pictures"]) == len(set(study["pictures"])) == 6
    assert len(study["sheets"][0]) == 6 and len(study["photos"]) == 4


def test_the_server_hands_a_page_out_as_a_file_and_never_as_its_own(server, graph):
    """ComfyUI's own protection: a page from the output folder must not run with the editor's rights."""
    server.client.run(graph)
    with server.client.open("/view?filename=pocket_dog.html&subfolder=comparisons&type=output") as answer:
        assert answer.headers["Content-Type"] != "text/html" and b"My dog" in answer.read()


@pytest.mark.parametrize(("inputs", "words"), [
    ({"name_b": "Base model"}, ("name", "two methods")),
    ({"prompts": "one\ntwo\nthree"}, ("prompts", "3 for 2 pictures")),
    ({"file_name": "../page"}, ("file_name", "got", "expected")),
    ({"title": ""}, ("title", "an empty text")),
    ({"pairs_per_sheet": -1}, ("pairs_per_sheet",)),
])
def test_what_cannot_be_compared_is_refused_with_its_reason(server, graph, inputs, words):
    message = message_of(server, changed(graph, "PersonalizePairedComparison", **inputs))
    assert all(word in message for word in words), message


def test_methods_with_other_numbers_of_pictures_are_refused(server, graph):
    (node,) = (node for node in graph.values() if node["class_type"] == "PersonalizePairedComparison")
    more = changed(graph, "PersonalizePairedComparison", images_b=node["inputs"]["images_a"])
    photos = next(number for number, node in more.items() if node["class_type"] == "LoadImage")
    message = message_of(server, changed(more, "PersonalizePairedComparison", images_b=[photos, 0]))
    assert "pictures of personalized: got 1 pictures, expected 2" in message
