"""A graph is signed with its user on a server that tells users apart, and by nobody else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from comfy.cli_args import args
from server import PromptServer

from comfyui_personalize.nodes.bridge.queued import USER
from comfyui_personalize.nodes.bridge.server.users import note_asking, sign_queued, tell_users_apart


class Users:
    """Stands for ComfyUI's own manager of users, of which one is known."""

    def get_request_user_id(self, request: web.Request) -> str:
        user = request.headers.get("comfy-user", "default")
        if user != "ann":
            raise KeyError(user)
        return user


def queued(path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """What ComfyUI gets of a request to queue a graph."""
    async def ask() -> dict[str, Any]:
        async def post(request: web.Request) -> web.Response:
            return web.json_response(sign_queued(await request.json()))

        app = web.Application(middlewares=[note_asking])
        app.router.add_post(path, post)
        async with TestClient(TestServer(app)) as client:
            answer = await client.post(path, json=body, headers=headers)
            return dict(await answer.json())

    return asyncio.run(ask())


@pytest.fixture
def server(monkeypatch) -> SimpleNamespace:
    """A server that tells users apart."""
    made = SimpleNamespace(user_manager=Users(), on_prompt_handlers=[], app=web.Application())
    monkeypatch.setattr(args, "multi_user", True)
    monkeypatch.setattr(PromptServer, "instance", made, raising=False)
    return made


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("path", ["/prompt", "/api/prompt"])
def test_a_graph_is_signed_with_the_user_who_asks_whatever_it_says_itself(path):
    lie = {"prompt": {}, "extra_data": {USER: "ben", "x": 1}}
    assert queued(path, lie, **{"Comfy-User": "ann"})["extra_data"] == {USER: "ann", "x": 1}
    assert queued(path, {"prompt": {}}, **{"Comfy-User": "ann"})["extra_data"] == {USER: "ann"}


@pytest.mark.usefixtures("server")
def test_a_graph_of_an_unknown_user_is_nobodys():
    assert queued("/prompt", {"extra_data": {USER: "ann"}})["extra_data"] == {USER: ""}
    assert queued("/prompt", {"extra_data": {USER: "ann"}}, **{"Comfy-User": "eve"})["extra_data"] == {USER: ""}


def test_extra_data_that_is_none_is_left_to_comfyui():
    assert sign_queued({"extra_data": 7}) == {"extra_data": 7}


def test_users_are_told_apart_once_only_where_the_server_does_and_it_is_taken_back(server, monkeypatch):
    undo = tell_users_apart(server)
    tell_users_apart(server)
    assert server.on_prompt_handlers == [sign_queued] and list(server.app.middlewares) == [note_asking]
    undo()
    assert server.on_prompt_handlers == [] and list(server.app.middlewares) == []
    monkeypatch.setattr(args, "multi_user", False)
    tell_users_apart(server)
    assert server.on_prompt_handlers == []
