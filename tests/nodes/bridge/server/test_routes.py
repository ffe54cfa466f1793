"""Our routes take what is asked of them properly, from this server's own pages, and refuse the rest in JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.server.routes import (
    LARGEST_BODY,
    NotThere,
    add_routes,
    change_route,
    read_route,
)


async def rename(request: web.Request, values: dict[str, Any]) -> Any:
    if values["run"] == "gone":
        raise NotThere("run", "'gone'", "a run", "Look at the list.")
    if values["run"] == "bad":
        raise InputError("run", "'bad'", "a good one", "Write one.")
    if values["run"] == "broken":
        raise KeyError("of ours")
    return {"run": values["run"], "times": values["times"]}


async def look(request: web.Request, values: dict[str, Any]) -> Any:
    return values


ROUTES = (change_route("/rename", rename, {"run": str, "times": int}), read_route("/runs/{run}", look, {"run": str}))
GOOD = {"run": "dog", "times": 2}


def asked(method: str, path: str, **request: Any) -> tuple[int, Any]:
    """Status and answer of one request; the text where it is no JSON."""
    async def ask() -> tuple[int, Any]:
        table = web.RouteTableDef()
        add_routes(table._items, ROUTES)
        app = web.Application()
        app.add_routes(table)
        async with TestClient(TestServer(app)) as client:
            if "origin" in request:
                own = str(client.make_url("")).rstrip("/")
                request.setdefault("headers", {})["Origin"] = request.pop("origin") or own
            answer = await client.request(method, path, **request)
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())

    return asyncio.run(ask())


def test_values_come_in_and_json_goes_out():
    assert asked("POST", "/personalize/rename", json=GOOD) == (200, GOOD)
    assert asked("GET", "/personalize/runs/my%20dog") == (200, {"run": "my dog"})


def test_what_changes_something_takes_post_alone():
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        assert asked(method, "/personalize/rename", json=GOOD)[0] == 405


def test_this_servers_own_page_and_programs_without_one_may_ask():
    assert asked("POST", "/personalize/rename", json=GOOD, origin="") == (200, GOOD)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example",
                                    "http://[", "file://"])
def test_a_foreign_page_is_refused(origin):
    status, answer = asked("POST", "/personalize/rename", json=GOOD, origin=origin)
    assert status == 403 and answer["error"]["name"] == "Origin"


def test_a_page_that_the_browser_calls_cross_site_is_refused():
    assert asked("POST", "/personalize/rename", json=GOOD, headers={"Sec-Fetch-Site": "cross-site"})[0] == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_bodies_that_a_page_sends_without_asking_are_refused(kind):
    status, answer = asked("POST", "/personalize/rename", data=b'{"run": "dog", "times": 2}',
                           headers={"Content-Type": kind})
    assert status == 400 and answer["error"]["name"] == "Content-Type"


@pytest.mark.parametrize(("body", "name"), [
    (b"", "body"), (b"[]", "body"), (b"{", "body"), (b"\xff", "body"), (b"[" * 50_000, "body"),
    (b" " * (LARGEST_BODY + 1), "body"), (b'{"run": "dog"}', "times"), (b'{"run": "dog", "times": true}', "times"),
    (b'{"run": 1, "times": 2}', "run"), (b'{"run": "\\ud800", "times": 2}', "run"),
    (b'{"run": "dog", "times": 2, "path": "/"}', "body")])
def test_a_wrong_body_is_refused_with_the_name_of_what_is_wrong(body, name):
    status, answer = asked("POST", "/personalize/rename", data=body, headers={"Content-Type": "application/json"})
    assert (status, answer["error"]["name"]) == (400, name)


@pytest.mark.parametrize(("run", "status", "message"), [
    ("bad", 400, "run: got 'bad', expected a good one. Write one."),
    ("gone", 404, "run: got 'gone', expected a run. Look at the list."),
    ("broken", 500, "This went wrong inside the extension; the log says what.")])
def test_a_refusal_is_told_in_json(run, status, message, caplog):
    found, answer = asked("POST", "/personalize/rename", json={"run": run, "times": 1})
    assert (found, answer["error"]["message"]) == (status, message)
    assert ("KeyError" in caplog.text) == (status == 500)


def test_routes_are_added_once_and_taken_out_again():
    theirs = web.RouteDef("GET", "/prompt", look, {})
    routes: list[Any] = [theirs]
    undo = add_routes(routes, ROUTES)
    add_routes(routes, ROUTES)()
    assert routes == [theirs, *ROUTES]
    undo()
    assert routes == [theirs]
