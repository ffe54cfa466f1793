"""Whatever a graph gives a node that reads files, ComfyUI is told whether to run it again."""

from __future__ import annotations

import math

import pytest
from comfy_api.v0_0_2 import io

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes import NODES
from comfyui_personalize.nodes.bridge.queue.fingerprints import fingerprint

READ_FILES = {node: next(socket.id for socket in node.define_schema().inputs if isinstance(socket, io.Combo.Input))
              for node in NODES if "fingerprint_inputs" in vars(node)}
"""Nodes that look at files, and the widget that names them."""


def test_all_of_them_are_known():
    assert {node.define_schema().node_id: name for node, name in READ_FILES.items()} == {
        "PersonalizeLoad": "name", "PersonalizeCheckpointGrid": "run", "PersonalizePhotosFromFolder": "folder",
        "PersonalizeFromPhotos": "photos", "PersonalizeRegularizationImages": "folder"}


@pytest.mark.parametrize("given", [3, 0.5, True, [], [1, 2], ["a", "b"], {"a": 1}, "\ud800", "nowhere", "run: nowhere"],
                         ids=repr)
@pytest.mark.parametrize("node", READ_FILES, ids=lambda node: node.__name__)
def test_what_names_nothing_has_the_reason_as_its_state(node, given):
    for value in (given, [given]):
        told = node.fingerprint_inputs(**{READ_FILES[node]: value})
        assert "expected" in told and told == node.fingerprint_inputs(**{READ_FILES[node]: value})


@pytest.mark.parametrize("node", READ_FILES, ids=lambda node: node.__name__)
def test_what_is_linked_is_never_the_same(node):
    for nothing in ({}, {READ_FILES[node]: None}, {READ_FILES[node]: [None]}):
        assert math.isnan(node.fingerprint_inputs(**nothing))


@pytest.mark.parametrize("reason", [InputError("file", "none", "one", "Choose."), PermissionError(13, "denied")])
def test_a_file_that_cannot_be_read_does_not_end_the_graph(reason):
    def state(_):
        raise reason

    assert fingerprint(state, "dog") == str(reason)
