"""A server's port is its own, however many start side by side."""

from __future__ import annotations

import asyncio

from comfyui_personalize.fleet.server import free_port
from comfyui_personalize.tools.comfyui_server import Server


def test_a_port_is_given_once_and_left_to_the_server_that_asks_for_it():
    ports = [free_port() for _ in range(400)]  # of about 28,000: drawn blindly, some would come twice
    assert len(set(ports)) == 400

    async def listen(port: int) -> None:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port):
            pass

    for port in ports[:20]:
        asyncio.run(listen(port))


def test_a_server_of_tests_and_tools_ends_with_the_process_that_started_it(tmp_path):
    """What a guarded program does is in `test_guard.py`."""
    assert Server(tmp_path).is_guarded
