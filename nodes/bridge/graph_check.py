"""Does the graph sample a DCI prompt on a MODEL without DCI? Seen in the graph itself, whenever one is queued.

The sampler cannot say so: nothing of this package is in a plain MODEL. Nor can the node that encodes the prompt: where
only what is behind it changed, ComfyUI takes its result from the cache and does not ask it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from server import PromptServer

from .notices import warn

Graph = Mapping[str, Mapping[str, Any]]
"""ComfyUI's prompt: node id to class_type and inputs; a link is [node id, output]."""

DUAL_BRANCH_NODES = frozenset({"DCIModel", "DCIConditioning"})
DUAL_PROMPT_NODES = frozenset({"DCIEncode", "DCIConditioning"})


def watch_queue() -> None:
    """Check every graph that the server gets from now on."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and check_queued not in server.on_prompt_handlers:
        server.add_on_prompt_handler(check_queued)


def check_queued(request: dict[str, Any]) -> dict[str, Any]:
    """A request to queue a graph, as it came, after warnings to the client that sent it."""
    graph = request.get("prompt") or {}
    for name, node in graph.items():
        if node.get("class_type") in DUAL_PROMPT_NODES:
            for warning in plain_model_warnings(graph, name):
                warn(name, warning, request.get("client_id"))
    return request


def plain_model_warnings(graph: Graph, node_id: str) -> list[str]:
    """One warning for every node that takes this node's prompt, on its way through others, and a MODEL without DCI."""
    return [f"{_title(graph[found])} samples this prompt without DCI: its MODEL does not come from DCI Model or DCI "
            f"Conditioning." for found in sorted(_models_meet(graph, node_id))
            if not _is_patched(graph, str(graph[found]["inputs"]["model"][0]), set())]


def _models_meet(graph: Graph, start: str) -> set[str]:
    """The first nodes behind a node, on every way from it, that have a linked MODEL input."""
    met, seen, waiting = set(), {start}, [start]
    while waiting:
        source = waiting.pop()
        for name, node in graph.items():
            if name in seen or source not in set(_sources(node)):
                continue
            seen.add(name)
            if _is_link(node["inputs"].get("model")):
                met.add(name)
            else:
                waiting.append(name)
    return met


def _is_patched(graph: Graph, name: str, seen: set[str]) -> bool:
    """Whether a node, or one before it, switches DCI on."""
    if name in seen or name not in graph:
        return False
    seen.add(name)
    node = graph[name]
    return node.get("class_type") in DUAL_BRANCH_NODES or any(_is_patched(graph, source, seen)
                                                              for source in _sources(node))


def _sources(node: Mapping[str, Any]) -> Iterator[str]:
    return (str(value[0]) for value in node.get("inputs", {}).values() if _is_link(value))


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)


def _title(node: Mapping[str, Any]) -> str:
    return str(node.get("_meta", {}).get("title") or node.get("class_type"))
