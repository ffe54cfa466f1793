"""What a node tells its user: a text on the node itself, and warnings in the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from server import PromptServer


def show_notice(node_id: str | None, text: str, warnings: Sequence[str] = ()) -> None:
    """Show `text` and the warnings below the node while the graph runs, and log each warning."""
    for warning in warnings:
        logging.warning("%s", warning)
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        lines = [text, *(f"Warning: {warning}" for warning in warnings)]
        server.send_progress_text("\n".join(lines), str(node_id), server.client_id)
