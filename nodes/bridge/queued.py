"""The queued graph that runs: what it is, who queued it, and what the running node is fed by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy.cli_args import args
from comfy_execution.utils import get_executing_context
from server import PromptServer

USER = "personalize_user"
"""Key of a queued graph's extra data: who queued it, on a server that tells users apart."""


@dataclass(frozen=True, kw_only=True)
class QueuedGraph:
    """One queued graph.

    Attributes:
        node: id of the node that runs.
        prompt: the graph as the API takes it.
        workflow: the same as the editor does; None where something else queued it.
        user: who queued it; empty where users are not told apart.
    """

    node: str
    prompt: Mapping[str, Any]
    workflow: Mapping[str, Any] | None
    user: str

    @property
    def kept(self) -> dict[str, Any]:
        """What may be kept of it; nothing where ComfyUI was told to keep no graphs (--disable-metadata)."""
        if args.disable_metadata:
            return {}
        return {"prompt": self.prompt} | ({} if self.workflow is None else {"workflow": self.workflow})


def running_graph() -> QueuedGraph | None:
    """The graph whose node runs; None outside of a server."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    queue = getattr(server, "prompt_queue", None)
    if context is None or queue is None:
        return None
    running, _ = queue.get_current_queue_volatile()
    for item in running:
        if item[1] == context.prompt_id:
            extra = item[3] if isinstance(item[3], dict) else {}
            pnginfo, user = extra.get("extra_pnginfo"), extra.get(USER)
            workflow = pnginfo.get("workflow") if isinstance(pnginfo, dict) else None
            return QueuedGraph(node=str(context.node_id), prompt=item[2],
                               workflow=workflow if isinstance(workflow, dict) else None,
                               user=user if args.multi_user and isinstance(user, str) else "")
    return None


def base_model(prompt: Mapping[str, Any], node: str) -> str:
    """Name of the file that a node's MODEL comes from, as the loader's widget has it; empty where it is not told."""
    seen: set[str] = set()
    while node not in seen:
        seen.add(node)
        inputs = _inputs(prompt, node)
        link = inputs.get("model")
        if isinstance(link, list) and len(link) == 2 and isinstance(link[0], str):
            node = link[0]
    names = (value for name, value in _inputs(prompt, node).items() if name.endswith("_name"))
    return next((name for name in names if isinstance(name, str)), "")


def _inputs(prompt: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    found = prompt.get(node)
    inputs = found.get("inputs") if isinstance(found, dict) else None
    return inputs if isinstance(inputs, dict) else {}
