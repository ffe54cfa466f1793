"""A real server tells the client that queues a graph what is wrong with its words, and only that client."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "pocket.safetensors"}},
    "2": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "3": {"class_type": "PersonalizeSubjectPhotos", "inputs": {
        "images.image0": ["2", 0], "identifier": "sks", "class_noun": "dog", "caption_template": "a {V} {noun}"}},
    "4": {"class_type": "PersonalizeDCIEncode", "_meta": {"title": "Both pictures"}, "inputs": {
        "clip": ["1", 1], "prompt": "a sks cat", "identifier": "sks", "class_noun": "cat", "auxiliary_noun": "bowl",
        "prompt_l": ""}},
    "5": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
}


async def _events(socket: aiohttp.ClientWebSocketResponse, last: str | None) -> list[dict[str, Any]]:
    """What a client gets to hear: until an event of a kind, or for a second."""
    heard: list[dict[str, Any]] = []
    while last is None or last not in [event["type"] for event in heard]:
        try:
            message = await socket.receive(timeout=600 if last else 1)
        except asyncio.TimeoutError:
            break
        if message.type is aiohttp.WSMsgType.TEXT:
            heard.append(message.json())
    return [event["data"] for event in heard if event["type"] == "personalize.warning"]


async def _told(address: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The warnings that two clients get while the first one's graph runs."""
    async with aiohttp.ClientSession() as session:
        mine, others = [await session.ws_connect(f"{address}/ws?clientId={name}") for name in ("me", "other")]
        answer = await session.post(f"{address}/prompt", json={"prompt": GRAPH, "client_id": "me"})
        assert answer.status == 200, await answer.text()
        return await _events(mine, "execution_success"), await _events(others, None)


def told(address: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`_told`, for tests of other files too."""
    return asyncio.run(_told(address))


def test_the_client_that_queued_gets_the_warning(server):
    mine, others = told(server.client.address)
    (warning,) = [each for each in mine if "Both pictures" in each["text"]]
    assert warning["node"] == "4" and "'cat'" in warning["text"] and "'dog'" in warning["text"]
    assert others == []
