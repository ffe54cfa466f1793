"""Sockets take what another node gives. Over the API a number, a text, an object or nothing can stand in a link's
place, NaN in a number's, and a link under a name that no input has: ComfyUI hands all of it on, and the node would fail
in the middle of its work."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_api.v0_0_2 import io

from ....core.errors import InputError, TrainingDiverged, require
from ....core.store.files import StorageError
from ..plain_paths import plain_paths

PLAIN = (str, int, float, bool)
AS_TYPED = frozenset({"*", "STRING", "INT", "FLOAT", "BOOLEAN", "COMBO", "LOSS_MAP", "LORA_MODEL"})
"""Types of sockets whose values may be texts, numbers, or lists and objects of them."""
GROWING = "COMFY_AUTOGROW_V3"
MAY_BE_MISSING = frozenset({"CLIP", "VAE"})
"""Stock loaders give None for what a checkpoint does not have; the nodes say so in their own words."""


def with_checked_sockets(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The same class, whose `execute` raises InputError for a value that was typed where a link belongs, for a link
    that is missing or has an unknown name, and for NaN and infinity: no range keeps NaN out. What its errors say names
    no folder outside ComfyUI's."""
    execute = node.execute.__func__

    @functools.wraps(execute)
    def checked(cls: type[io.ComfyNode], *arguments: Any, **inputs: Any) -> Any:
        schema = node.GET_SCHEMA()  # once: it may list a folder
        names = [slot.id for slot in schema.inputs]
        for name in inputs:
            require(name in names, "inputs", f"one with the name {_shown(name)}", ", ".join(names), "Remove it.")
        for name, kind in _missing(schema, inputs):
            raise InputError(name, "nothing", f"a link to an output of the type {kind}", "Connect a node that has one.")
        for name, kind, value in _socket_values(schema, inputs):  # a running clone is locked
            require(not is_typed(value), name, _shown(value), f"a link to an output of the type {kind}",
                    "Connect a node that has one.")
        for name, value in inputs.items():
            for each in value if isinstance(value, list) else [value]:
                require(not isinstance(each, float) or math.isfinite(each), name, each, "a finite number", "Type one.")
        try:
            return execute(cls, *arguments, **inputs)
        except (InputError, StorageError, TrainingDiverged) as told:
            told.args = (plain_paths(str(told)),)
            raise

    node.execute = classmethod(checked)
    return node


def _missing(schema: io.Schema, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and type of every socket that must be linked and was given None."""
    for slot in schema.inputs:
        kind, value = slot.get_io_type(), inputs.get(slot.id, ...)
        if slot.optional or isinstance(slot, io.WidgetInput) or kind in AS_TYPED | MAY_BE_MISSING | {GROWING}:
            continue
        if value is None or isinstance(value, list) and len(value) == 1 and value[0] is None:
            yield slot.id, kind


def _socket_values(schema: io.Schema, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Name, type and value of everything that came through a socket; what is not connected is left out."""
    for slot in schema.inputs:
        growing = slot.get_io_type() == GROWING
        kind = slot.template.input.get_io_type() if growing else slot.get_io_type()
        found = inputs.get(slot.id)
        if found is None or isinstance(slot, io.WidgetInput) or kind in AS_TYPED:
            continue
        named = found.items() if growing and isinstance(found, Mapping) else [(slot.id, found)]
        for name, value in named:
            for each in value if schema.is_input_list and isinstance(value, list) else [value]:
                if each is not None:
                    yield f"{slot.id}.{name}" if growing and name != slot.id else name, kind, each


def is_typed(value: Any) -> bool:
    """Whether a value holds nothing but texts, numbers, and lists and objects of them, as JSON does."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            waiting += found.values()
        elif not (found is None or isinstance(found, PLAIN)):
            return False
    return True


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
