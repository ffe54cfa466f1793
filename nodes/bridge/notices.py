"""What a node tells its user: a text on the node itself, and warnings as pop-ups and in the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from comfy_api.v0_0_2 import io, ui
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import Tensor

from .plain_paths import plain_paths

EVENT = "personalize.warning"
"""web/warnings.js listens to it and shows its text as text."""
STOPPED = "personalize.stopped"
"""web/messages.js says where a run goes on that was cancelled or paused."""
TRAINING = "personalize.training"
"""web/training.js draws the chart of a run, and its buttons."""

_MARKUP = re.compile(r"[^\w\s]|_")
_SPACES = re.compile(r"^ +| {2,}", re.MULTILINE)


def show_notice(node_id: str | None, text: str, warnings: Sequence[str] = ()) -> None:
    """Show `text` and the warnings on the node while the graph runs, each warning also as a pop-up; log them."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        lines = [text, *(f"Warning: {warning}" for warning in warnings)]
        server.send_progress_text(as_markup(plain_paths("\n".join(lines))), str(node_id), server.client_id)
    for warning in warnings:
        warn(node_id, warning, getattr(server, "client_id", None))


def warn(node_id: str | None, warning: str, client_id: str | None) -> None:
    """Log a warning, and show it to a client as a pop-up with the node's name."""
    logging.warning("%s", warning)
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_sync(EVENT, {"node": str(node_id), "text": plain_paths(warning)}, client_id)


def as_markup(text: str) -> str:
    """Markup that shows exactly this text, line by line, wherever the frontend shows it: as HTML on the canvas, as
    Markdown in Nodes 2.0. As it stands, `<cat-toy>` would vanish there, and a stranger's address become a link."""
    characters = _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)
    return _SPACES.sub(lambda found: "&#160;" * len(found[0]), characters).replace("\n", "  \n")


def shown_pictures(pictures: Tensor, node: type[io.ComfyNode]) -> dict[str, Any]:
    """What a node's `ui` takes to show pictures (N, H, W, 3). A disk that does not take their files must not cost the
    node's result: nothing is shown then, and why is said."""
    try:
        shown: dict[str, Any] = ui.PreviewImage(pictures, cls=node).as_dict()
        return shown
    except OSError as reason:
        warn_running_node(f"the pictures could not be written for display: {reason.strerror or reason}")
        return {}


def show_on_running_node(text: str) -> None:
    """Show a line on the node that runs, in place of the last one."""
    show_notice(running_node(), text)


def running_node() -> str | None:
    """The id of the node that runs."""
    context = get_executing_context()
    return None if context is None else str(context.node_id)


def tell(event: str, **values: Any) -> None:
    """Send an event in the name of the node that runs to the client that queued it."""
    node, server = running_node(), getattr(PromptServer, "instance", None)
    if server is not None and node is not None:
        server.send_sync(event, {"node": node, **values}, server.client_id)


def warn_running_node(warning: str) -> None:
    """Warn at once in the name of the node that runs, which may still run for hours."""
    server = getattr(PromptServer, "instance", None)
    warn(running_node(), warning, getattr(server, "client_id", None))
