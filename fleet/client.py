"""ComfyUI's HTTP API, with the standard library alone."""

from __future__ import annotations

import json
import mimetypes
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

POLL_SECONDS = 0.1

Graph = Mapping[str, Mapping[str, Any]]


class GraphRefused(RuntimeError):
    """The server did not accept a graph (HTTP 400).

    Attributes:
        node_errors: what the server says about each node.
    """

    def __init__(self, message: str, node_errors: dict[str, Any]):
        super().__init__(f"{message} {json.dumps(node_errors)}")
        self.node_errors = node_errors


class GraphFailed(RuntimeError):
    """A node raised while the graph ran.

    Attributes:
        node_type: the class of the node.
        exception_type, exception_message: what it raised.
    """

    def __init__(self, details: Mapping[str, Any]):
        self.node_type = str(details.get("node_type"))
        self.exception_type = str(details.get("exception_type"))
        self.exception_message = str(details.get("exception_message", "")).strip()
        super().__init__(f"{self.node_type}: {self.exception_type}: {self.exception_message}")


class GraphInterrupted(RuntimeError):
    """The run was cancelled."""


class Client:
    """ComfyUI's HTTP API.

    Args:
        address: for example ``"http://127.0.0.1:8188"``.
    """

    def __init__(self, address: str):
        self.address = address
        self.client_id = uuid.uuid4().hex

    def open(self, path: str, timeout: float = 60.0) -> Any:
        """The open answer to a GET: a context manager with `status` and `read`."""
        return urlopen(self.address + path, timeout=timeout)  # noqa: S310 - the local server

    def get(self, path: str, timeout: float = 60.0) -> Any:
        """The JSON answer to a GET."""
        with self.open(path, timeout) as answer:
            return json.load(answer)

    def post(self, path: str, body: bytes | dict[str, Any], content_type: str = "application/json") -> Any:
        """The JSON answer to a POST; None for an empty one."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(self.address + path, data, {"Content-Type": content_type})  # noqa: S310 - the local server
        with urlopen(request, timeout=60.0) as answer:  # noqa: S310 - the local server
            text = answer.read()
        return json.loads(text) if text else None

    def object_info(self) -> dict[str, Any]:
        """Every node class the server knows, with its inputs and outputs."""
        return self.get("/object_info")

    def queue(self, graph: Graph) -> str:
        """Queue a graph in API form and return its prompt id. Raises: GraphRefused."""
        try:
            return self.post("/prompt", {"prompt": graph, "client_id": self.client_id})["prompt_id"]
        except HTTPError as error:
            answer = json.loads(error.read() or b"{}")
            message = answer.get("error", {})
            text = message.get("message", "") if isinstance(message, dict) else str(message)
            raise GraphRefused(f"HTTP {error.code}: {text}", answer.get("node_errors", {})) from error

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """What is known of a finished prompt; None while it waits or runs."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def is_running(self, prompt_id: str) -> bool:
        """Whether the prompt left the queue and is being executed."""
        return any(item[1] == prompt_id for item in self.get("/queue")["queue_running"])

    def outputs(self, prompt_id: str, timeout: float = 600.0,
                is_alive: Callable[[], bool] = lambda: True) -> dict[str, Any]:
        """Wait for a prompt and return its outputs by node id.

        Args:
            is_alive: whether the server's process runs; it may be too busy to answer, which is no reason to give up.

        Raises:
            GraphFailed, GraphInterrupted, TimeoutError; URLError, for a server that is gone.
        """
        end = time.monotonic() + timeout
        while (entry := self._entry(prompt_id, is_alive)) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"prompt {prompt_id} did not end within {timeout} s")
            time.sleep(POLL_SECONDS)
        raise_what_happened(entry["status"])
        return entry["outputs"]

    def _entry(self, prompt_id: str, is_alive: Callable[[], bool]) -> dict[str, Any] | None:
        try:
            return self.history(prompt_id)
        except TimeoutError:
            if not is_alive():
                raise
            return None

    def run(self, graph: Graph, timeout: float = 600.0) -> dict[str, Any]:
        """Queue a graph and wait for its outputs by node id."""
        return self.outputs(self.queue(graph), timeout)

    def interrupt(self) -> None:
        """Cancel what runs now."""
        self.post("/interrupt", {})

    def upload_image(self, path: Path, name: str | None = None) -> str:
        """Put a picture into the server's input folder and return the name that LoadImage takes."""
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        head = (f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
                f'--{boundary}\r\n'
                f'Content-Disposition: form-data; name="image"; filename="{name or path.name}"\r\n'
                f"Content-Type: {kind}\r\n\r\n")
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        return self.post("/upload/image", body, f"multipart/form-data; boundary={boundary}")["name"]

    def download(self, picture: Mapping[str, str]) -> bytes:
        """The bytes of one entry of a node's ``images`` output."""
        query = urlencode({key: picture[key] for key in ("filename", "subfolder", "type")})
        with self.open(f"/view?{query}") as answer:
            return answer.read()


def raise_what_happened(status: Mapping[str, Any]) -> None:
    """Raises: GraphInterrupted or GraphFailed where a history entry's status is not success."""
    if status["status_str"] == "success":
        return
    messages = dict(status["messages"])
    if "execution_interrupted" in messages:
        raise GraphInterrupted("the run was cancelled")
    raise GraphFailed(messages.get("execution_error", {}))
