"""What a queued graph itself tells before anything runs: words that disagree, DCI prompts on a MODEL without DCI,
files of the pocket models that are not whole.

No node can say so later. Nothing of this package is in the sampler of a plain MODEL; and where only what is behind a
node changed, ComfyUI takes its result from the cache and does not ask it again.
"""

from __future__ import annotations

import logging
from typing import Any

from server import PromptServer

from .. import pocket_files
from ..notices import warn
from .graph_names import Warnings, name_warnings
from .graph_walk import Graph, links, readable, title
from .settings_checks import remember

DUAL_BRANCH_NODES = frozenset({"PersonalizeDCIModel", "DCIConditioning"})
DUAL_PROMPT_NODES = frozenset({"PersonalizeDCIEncode", "DCIConditioning"})


def watch_queue() -> None:
    """Check every graph that the server gets from now on."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and check_queued not in server.on_prompt_handlers:
        server.add_on_prompt_handler(check_queued)


def check_queued(request: dict[str, Any]) -> dict[str, Any]:
    """A request to queue a graph, as it came, after warnings to the client that sent it."""
    graph = readable(request.get("prompt"))
    remember(graph)
    for warnings in (dci_warnings(graph), name_warnings(graph), pocket_files.warnings_of(graph)):
        try:
            for name, warning in warnings:
                warn(name, warning, request.get("client_id"))
        except Exception:  # a graph that no one thought of is queued without a warning
            logging.exception("A queued graph could not be looked at.")
    return request


def dci_warnings(graph: Graph) -> Warnings:
    """DCI prompts that are sampled on a MODEL without DCI."""
    for name, node in graph.items():
        if node["class_type"] in DUAL_PROMPT_NODES:
            yield from ((name, warning) for warning in plain_model_warnings(graph, name))


def plain_model_warnings(graph: Graph, node_id: str) -> list[str]:
    """One warning for every node that takes this node's prompt, on its way through others, and a MODEL without DCI."""
    return [f"{title(graph, found)} samples this prompt without DCI: its MODEL does not come from DCI Model or DCI "
            f"Conditioning." for found in sorted(_models_meet(graph, node_id))
            if not _is_patched(graph, links(graph[found])["model"][0])]


def _models_meet(graph: Graph, start: str) -> set[str]:
    """The first nodes behind a node, on every way from it, that have a linked MODEL input."""
    met, seen, waiting = set(), {start}, [start]
    while waiting:
        source = waiting.pop()
        for name, node in graph.items():
            if name in seen or source not in _sources(graph, name):
                continue
            seen.add(name)
            if "model" in links(node):
                met.add(name)
            else:
                waiting.append(name)
    return met


def _is_patched(graph: Graph, name: str) -> bool:
    """Whether a node, or one before it, switches DCI on."""
    seen, waiting = set(), [name]
    while waiting:
        source = waiting.pop()
        if source not in seen and source in graph:
            seen.add(source)
            if graph[source]["class_type"] in DUAL_BRANCH_NODES:
                return True
            waiting += _sources(graph, source)
    return False


def _sources(graph: Graph, name: str) -> set[str]:
    return {source for source, _ in links(graph[name]).values()}
