"""A run that trains is listed and can be asked; one that does not is refused by name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from comfyui_personalize.nodes.bridge.server.training import TRAINING_ROUTES
from comfyui_personalize.nodes.bridge.training.control import RUNNING, Control, running


def ask(method: str, path: str, **request: Any) -> tuple[int, Any]:
    async def asked() -> tuple[int, Any]:
        app = web.Application()
        app.add_routes(TRAINING_ROUTES)
        async with TestClient(TestServer(app)) as client:
            answer = await client.request(method, path, **request)
            return answer.status, await answer.json()

    return asyncio.run(asked())


def test_what_trains_is_listed_with_how_it_goes_and_no_longer():
    with running(Control(run="k1", name="my_dog", node="5", shown={"step": 7})):
        listed = [{"run": "k1", "name": "my_dog", "node": "5", "draws": True, "step": 7}]
        assert ask("GET", "/personalize/training") == (200, listed)
    assert ask("GET", "/personalize/training") == (200, []) and RUNNING == {}


def test_a_picture_is_asked_for_once_and_a_pause_stays():
    with running(Control(run="k1", name="my_dog", node="5")) as control:
        for _ in range(2):
            assert ask("POST", "/personalize/training/draw", json={"run": "k1"}) == (200, {"run": "k1"})
        assert [control.takes_picture(), control.takes_picture(), control.is_paused] == [True, False, False]
        ask("POST", "/personalize/training/pause", json={"run": "k1"})
        assert control.is_paused and control.is_paused and not control.takes_picture()


def test_a_run_that_samples_no_pictures_is_not_asked_for_one():
    with running(Control(run="k1", name="my_dog", node="5", draws=False)) as control:
        status, answer = ask("POST", "/personalize/training/draw", json={"run": "k1"})
        assert status == 400 and answer["error"]["name"] == "run" and not control.takes_picture()


@pytest.mark.parametrize("path", ["draw", "pause"])
@pytest.mark.parametrize("run", ["k2", "", "../k1"])
def test_an_unknown_run_is_refused_with_what_to_do(path, run):
    with running(Control(run="k1", name="my_dog", node="5")) as control:
        status, answer = ask("POST", f"/personalize/training/{path}", json={"run": run})
        assert not control.is_paused and not control.takes_picture()
    assert status == 404 and "GET /personalize/training lists what trains" in answer["error"]["fix"]
