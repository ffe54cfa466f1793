"""A running graph, watched through the server's own messages."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import threading
from typing import Any

from .client import Client

TEXT_EVENT = 3
"""Of ComfyUI's binary messages: 4 bytes event, 4 bytes length of the node's name, the name, the text."""
_LOSS = re.compile(r"loss\s+(\d[\d.]*)")


class Watch:
    """The step of the node that runs, and the last loss told.

    Attributes:
        node: number of the node in the graph.
        step, steps: of its progress.
        loss: as the trainer tells it; None before.
    """

    def __init__(self, client: Client):
        self.node, self.step, self.steps, self.loss = "", 0, 0, None
        self._client = client
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-watch", daemon=True)

    node: str
    loss: float | None

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=5.0)

    def to_dict(self) -> dict[str, Any]:
        """For the table."""
        return {"node": self.node, "step": self.step, "steps": self.steps, "loss": self.loss}

    def _run(self) -> None:
        with contextlib.suppress(Exception):  # a job must not fail because nobody can watch it
            asyncio.run(self._listen())

    async def _listen(self) -> None:
        import aiohttp  # ComfyUI's own requirement; a thousand small jobs need not wait for it

        address = f"{self._client.address.replace('http', 'ws', 1)}/ws?clientId={self._client.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            while not self._stopped.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    message = await socket.receive(timeout=0.5)
                    if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR):
                        return
                    self.take(message.data)

    def take(self, message: str | bytes) -> None:
        """A message of the server."""
        if isinstance(message, str):
            said = json.loads(message)
            data = said.get("data", {})
            if said.get("type") == "progress":
                self.node, self.step, self.steps = str(data.get("node")), int(data["value"]), int(data["max"])
        elif isinstance(message, bytes) and int.from_bytes(message[:4], "big") == TEXT_EVENT:
            length = int.from_bytes(message[4:8], "big")
            text = html.unescape(message[8 + length:].decode(errors="replace"))
            if found := _LOSS.search(text):
                self.loss = float(found[1])
