"""What a node tells its user: a text on the node itself, and warnings as pop-ups and in the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from server import PromptServer

EVENT = "personalize.warning"
"""web/warnings.js listens to it."""


def show_notice(node_id: str | None, text: str, warnings: Sequence[str] = ()) -> None:
    """Show `text` and the warnings on the node while the graph runs, each warning also as a pop-up; log them."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        lines = [text, *(f"Warning: {warning}" for warning in warnings)]
        server.send_progress_text("\n".join(lines), str(node_id), server.client_id)
    for warning in warnings:
        warn(node_id, warning, getattr(server, "client_id", None))


def warn(node_id: str | None, warning: str, client_id: str | None) -> None:
    """Log a warning, and show it to a client as a pop-up with the node's name."""
    logging.warning("%s", warning)
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_sync(EVENT, {"node": str(node_id), "text": warning}, client_id)
