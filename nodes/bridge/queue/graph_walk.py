"""How a queued graph is read: its nodes, its links, the types that run through them, and what lies upstream."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import nodes as comfy_nodes

Graph = Mapping[str, Mapping[str, Any]]
"""ComfyUI's prompt: node id to class_type and inputs; a link is [node id, output]."""
Link = tuple[str, int]
"""A node's id and one of its outputs."""
ANYTHING = "*"


def readable(prompt: Any) -> Graph:
    """What of a prompt is nodes; the rest is ComfyUI's to complain about."""
    given = prompt if isinstance(prompt, dict) else {}
    return {name: node for name, node in given.items() if isinstance(node, dict)
            and isinstance(node.get("inputs"), dict) and isinstance(node.get("class_type"), str)}


def link_of(value: Any) -> Link | None:
    """The link that an input holds."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int):
        return str(value[0]), value[1]
    return None


def links(node: Mapping[str, Any]) -> dict[str, Link]:
    """A node's linked inputs."""
    found = {name: link_of(value) for name, value in node.get("inputs", {}).items()}
    return {name: link for name, link in found.items() if link is not None}


def links_of_type(graph: Graph, name: str, types: Collection[str]) -> dict[str, Link]:
    """A node's inputs that are linked to an output of one of the types, or of any type."""
    return {key: link for key, link in links(graph[name]).items() if type_of(graph, link) in (*types, ANYTHING)}


def type_of(graph: Graph, link: Link) -> str | None:
    """The type that runs through a link, as far as installed nodes tell."""
    node = graph.get(link[0], {})
    outputs = getattr(comfy_nodes.NODE_CLASS_MAPPINGS.get(node.get("class_type")), "RETURN_TYPES", ())
    return outputs[link[1]] if 0 <= link[1] < len(outputs) and isinstance(outputs[link[1]], str) else None


def upstream(graph: Graph, start: Iterable[Link], types: Collection[str], stops: Collection[str] = ()) -> Iterator[str]:
    """The nodes that links lead to, and those before them through links of the types, each once.

    Args:
        stops: classes whose nodes are given and not gone past.
    """
    seen: set[str] = set()
    waiting = [name for name, _ in start]
    while waiting:
        name = waiting.pop(0)
        if name in seen or name not in graph:
            continue
        seen.add(name)
        yield name
        if graph[name]["class_type"] not in stops:
            waiting += [source for source, _ in links_of_type(graph, name, types).values()]


def title(graph: Graph, name: str) -> str:
    """What a node is called in the editor."""
    meta = graph[name].get("_meta")
    class_type = graph[name]["class_type"]
    displayed = comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS.get(class_type, class_type)
    return str((meta.get("title") if isinstance(meta, dict) else None) or displayed)
