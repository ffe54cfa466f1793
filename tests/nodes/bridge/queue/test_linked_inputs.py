"""A value that is typed where a link belongs is refused by the node that gets it, whichever node it is."""

from __future__ import annotations

import pytest
import torch
from comfy_api.internal import make_locked_method_func
from comfy_api.v0_0_2 import io

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes import NODES
from comfyui_personalize.nodes.bridge.queue.linked_inputs import AS_TYPED, GROWING, MAY_BE_MISSING, is_typed
from comfyui_personalize.nodes.prior_preservation import PriorPreservationNode
from comfyui_personalize.tests.nodes.run_node import run_node


def sockets() -> list[tuple[type[io.ComfyNode], io.Input]]:
    """Every socket of every node that takes links alone."""
    return [(node, slot) for node in NODES for slot in node.GET_SCHEMA().inputs
            if not isinstance(slot, io.WidgetInput) and slot.get_io_type() not in AS_TYPED]


@pytest.mark.parametrize(("node", "slot"), sockets(), ids=lambda part: getattr(part, "id", None) or part.__name__)
@pytest.mark.parametrize("value", ["x", 7, 0.5, True, {"a": [1, None]}], ids=repr)
def test_a_typed_value_in_a_socket_is_refused_by_name(node, slot, value):
    inputs = {slot.id: {"image0": value} if slot.get_io_type() == GROWING else value}
    with pytest.raises(InputError, match=f"{slot.id}.*: got .*, expected a link to an output of the type"):
        run_node(node, **inputs)


def test_what_other_nodes_give_is_no_typed_value():
    assert not is_typed(torch.zeros(1))
    assert not is_typed([[torch.zeros(1), {}]])
    assert not is_typed({"samples": torch.zeros(1)})
    assert not is_typed(())


def test_an_object_of_another_node_goes_through_and_an_empty_socket_is_no_typed_value():
    assert run_node(PriorPreservationNode, source="base model", weight=1.0, prior=None)


def test_a_node_runs_on_the_locked_clone_that_the_executor_makes():
    """Nothing can be set on it, not even the schema that ComfyUI keeps on a class."""
    clone = PriorPreservationNode.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    run = make_locked_method_func(PriorPreservationNode, "EXECUTE_NORMALIZED", clone)
    assert run(source="base model", weight=1.0, prior=None).args


def required_sockets() -> list[tuple[type[io.ComfyNode], io.Input]]:
    return [(node, slot) for node, slot in sockets()
            if not slot.optional and slot.get_io_type() not in MAY_BE_MISSING | {GROWING}]


@pytest.mark.parametrize(("node", "slot"), required_sockets(),
                         ids=lambda part: getattr(part, "id", None) or part.__name__)
def test_nothing_in_a_socket_that_must_be_linked_is_refused_by_name(node, slot):
    value = [None] if node.GET_SCHEMA().is_input_list else None
    with pytest.raises(InputError, match=f"{slot.id}: got nothing, expected a link to an output of the type"):
        run_node(node, **{slot.id: value})


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
@pytest.mark.parametrize("name", ["", ".", "images.", "unique_id", "\ud800"], ids=ascii)
def test_a_link_under_a_name_that_no_input_has_is_refused(node, name):
    """Half a character would end ComfyUI's worker when it writes the message down."""
    with pytest.raises(InputError, match="inputs: got one with the name") as refusal:
        run_node(node, **{name: object()})
    assert str(refusal.value).isascii() or "\ud800" not in str(refusal.value)
