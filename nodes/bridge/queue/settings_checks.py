"""Settings that cannot be meant are refused when the graph is queued, also those that only contradict each other.

Nodes that give nothing but settings are built from what was typed, one from another along their links, as they will be
when the graph runs. What the built settings refuse is said at the node, at one of its inputs; what comes from a node
that loads or draws something is not known yet, and is left to the run.
"""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from typing import Any

import nodes as comfy_nodes
from comfy_api.v0_0_2 import io

from ....core.errors import InputError, require
from .graph_walk import Graph, link_of, links, title, upstream
from .queue_checks import SIDE

SETTINGS = frozenset({"OPTIONS", "PREVIEW", "OBJECTIVE", "TOKEN_VECTORS", "DATA_OPTIONS", "DCI_OPTIONS"})
"""Sockets that carry nothing that is loaded or drawn."""
SIZED = frozenset({"PriorSampleGen", "PersonalizeRegularizationImages"})
"""Nodes whose class images have the size of their widget `size`."""
_queued: ContextVar[Graph] = ContextVar("queued")
Node = type[io.ComfyNode]


class NotKnown(Exception):
    """Something that only the run can tell."""


def remember(graph: Graph) -> None:
    """Let what is validated next in this task see the whole graph."""
    _queued.set(graph)


def queued() -> Graph:
    """The graph that is validated; empty outside of that."""
    return _queued.get({})


def with_settings_check(node: Node) -> Node:
    """The same class; one that gives nothing but settings is built when it is queued."""
    if "validate_inputs" in vars(node) or not _gives_settings(node):  # in this order: a schema may list a folder
        return node
    schema = node.GET_SCHEMA()
    slot = _checked_input(schema)
    if slot is None:
        return node
    define = node.define_schema.__func__

    def define_schema(cls: Node) -> io.Schema:
        made = define(cls)
        made.hidden = [*(made.hidden or []), *([] if io.Hidden.unique_id in (made.hidden or []) else
                                               [io.Hidden.unique_id])]
        return made

    def validate_inputs(cls: Node, /, **given: Any) -> bool | str:
        graph, name = queued(), str(getattr(cls.hidden, "unique_id", None))
        try:
            require(_is_in_range(slot, given.get(slot.id)), slot.id, given.get(slot.id), _range(slot), "Type one.")
            if all(_is_in_range(one, graph[name]["inputs"].get(one.id)) for one in schema.inputs):
                _built(graph, name)  # else ComfyUI itself has refused a number or a choice
        except InputError as refusal:
            return str(refusal)
        except Exception:  # noqa: BLE001 - what is not known yet, or no one thought of, is said by the run
            return True
        return True

    named = inspect.Parameter(slot.id, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    validate_inputs.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("cls", inspect.Parameter.POSITIONAL_OR_KEYWORD), named])
    node.define_schema, node.validate_inputs = classmethod(define_schema), classmethod(validate_inputs)
    return node


def _gives_settings(node: Node) -> bool:
    outputs = [output.get_io_type() for output in node.GET_SCHEMA().outputs]
    return bool(outputs) and outputs[0] in SETTINGS


def _checked_input(schema: io.Schema) -> Any:
    """The one input that is named to ComfyUI, which then checks no range there: a text has none."""
    order = ("STRING", "BOOLEAN", "FLOAT", "INT")
    widgets = [slot for slot in schema.inputs if slot.get_io_type() in order and not slot.optional]
    return min(widgets, key=lambda slot: order.index(slot.get_io_type()), default=None)


def _is_in_range(slot: Any, value: Any) -> bool:
    """Whether a typed number or choice is one that the widget has; what is linked is not known."""
    low, high, options = (getattr(slot, name, None) for name in ("min", "max", "options"))
    if isinstance(value, list | dict) or value is None:
        return True
    if options is not None:
        return value in options
    is_number = isinstance(value, int | float)
    return not (is_number and low is not None and value < low or is_number and high is not None and value > high)


def _range(slot: Any) -> str:
    return f"a number from {getattr(slot, 'min', None)} to {getattr(slot, 'max', None)}"


def _built(graph: Graph, name: str, behind: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """The outputs of a settings node, as `execute` makes them.

    Raises:
        InputError: its settings cannot be meant.
        NotKnown: they depend on what is no setting, or are refused at another node.
    """
    node = comfy_nodes.NODE_CLASS_MAPPINGS.get(graph.get(name, {}).get("class_type"))
    if name in behind or node is None or not issubclass(node, io.ComfyNode) or not _gives_settings(node):
        raise NotKnown
    values = {}
    for slot, value in graph[name]["inputs"].items():
        link = link_of(value)
        if link is not None:
            try:
                value = _built(graph, link[0], (*behind, name))[link[1]]
            except InputError as refusal:
                raise NotKnown from refusal
        values[slot] = value
    result: tuple[Any, ...] = node.PREPARE_CLASS_CLONE(None).execute(**values).result
    return result


def check_class_image_sizes(trainer: str | None) -> None:
    """Raise `InputError` where class images that a trainer draws from are typed with another size than it."""
    graph, name = queued(), str(trainer)
    size = graph.get(name, {}).get("inputs", {}).get("resolution")
    link = links(graph.get(name, {})).get("objective")
    if not isinstance(size, int) or not size or size < SIDE or link is None:  # automatic, or refused by the widget
        return
    for found in upstream(graph, [link], ("OBJECTIVE", "PRIOR")):
        node = graph[found]
        other = node["inputs"].get("size") if node["class_type"] in SIZED else None
        require(not isinstance(other, int) or other in (0, size), "resolution", f"{size}, and class images of {other} "
                "pixels", "the same size for both", f"Set the size in {title(graph, found)} to {size}, or this to it.")
