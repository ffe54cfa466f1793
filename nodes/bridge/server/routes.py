"""Our own routes on ComfyUI's server: `/personalize/...`, and `/api/personalize/...`, under which the editor asks.

A route that changes something takes POST alone, with a JSON object, and only from a page of this server itself: a
stranger's page in the same browser cannot reach it. What is asked is checked like any input. Answers are JSON; a
refusal is `{"error": {"name", "got", "expected", "fix", "message"}}`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableSequence
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ....core.errors import InputError, require
from ....core.wording import require_text

PREFIX = "/personalize"
LARGEST_BODY = 100_000
"""Bytes of a body that is read."""
Handler = Callable[[web.Request, dict[str, Any]], Awaitable[Any]]
"""Gives what is answered as JSON, or a response, to the values that were asked with."""
Route = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NotThere(InputError):
    """Something was asked for by a name or an id that nothing has."""


def read_route(path: str, handler: Handler, fields: Mapping[str, type] | None = None) -> web.RouteDef:
    """A GET route that changes nothing; its values are texts of the address.

    Args:
        path: below `PREFIX`, e.g. "/runs"; parts in braces are values too.
        fields: those values that must be there, by name.
    """
    async def values(request: web.Request) -> Mapping[str, Any]:
        return {**request.query, **request.match_info}

    return web.RouteDef("GET", PREFIX + path, _answering(handler, values, fields or {}), {})


def change_route(path: str, handler: Handler, fields: Mapping[str, type] | None = None) -> web.RouteDef:
    """A POST route that takes a JSON object from this server's own pages, or from a client that is no browser.

    Args:
        fields: the values that must be there, and their types; no others may be.
    """
    async def values(request: web.Request) -> Mapping[str, Any]:
        refuse_strangers(request)
        return await _json_object(request)

    return web.RouteDef("POST", PREFIX + path, _answering(handler, values, fields or {}), {})


def add_routes(routes: MutableSequence[Any], ours: tuple[web.RouteDef, ...]) -> Callable[[], None]:
    """Add routes to a server's list, from which it starts; a second time nothing is added.

    Returns:
        What takes them out again.
    """
    there = {(route.method, route.path) for route in routes if isinstance(route, web.RouteDef)}
    added = [route for route in ours if (route.method, route.path) not in there]
    routes.extend(added)

    def undo() -> None:
        for route in added:
            if route in routes:
                routes.remove(route)

    return undo


def refuse_strangers(request: web.Request) -> None:
    """Raise 403 for a page of another origin: ComfyUI itself does so only where it runs on the browser's machine."""
    origin, host = request.headers.get("Origin"), request.headers.get("Host", "")
    if request.headers.get("Sec-Fetch-Site") == "cross-site" or origin is not None and not _is_same(origin, host):
        raise web.HTTPForbidden(text=json.dumps({"error": _told(InputError(
            "Origin", ascii(origin), "this server's own page", "Open ComfyUI itself and do it there."))}),
            content_type="application/json")


def _is_same(origin: str, host: str) -> bool:
    try:
        asked, own = urlsplit(origin), urlsplit(f"//{host}")
        usual = {"http": 80, "https": 443}.get(asked.scheme)
        return bool(asked.hostname) and asked.hostname == own.hostname and \
            (asked.port or usual) == (own.port or usual)
    except ValueError:  # no address at all
        return False


async def _json_object(request: web.Request) -> Mapping[str, Any]:
    """The body; not as a form or as plain text, which a stranger's page may send without asking."""
    require(request.content_type == "application/json", "Content-Type", ascii(request.content_type),
            "application/json", "Send a JSON object.")
    body = await request.content.read(LARGEST_BODY + 1)
    while len(body) <= LARGEST_BODY and (more := await request.content.read(LARGEST_BODY + 1)):
        body += more
    require(len(body) <= LARGEST_BODY, "body", f"more than {LARGEST_BODY:,} bytes", "a small JSON object", "Send less.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    require(isinstance(found, dict), "body", ascii(body[:60]), "a JSON object", 'Send for example {"run": "my_dog"}.')
    return dict(found)


def _checked(values: Mapping[str, Any], fields: Mapping[str, type]) -> dict[str, Any]:
    """The values, each of its type and none beside them.

    Raises:
        InputError: names the first that is wrong.
    """
    for name in values:
        require(name in fields, "body", f"a value with the name {ascii(name)[:60]}", _names(fields), "Leave it out.")
    for name, kind in fields.items():
        value = values.get(name)
        require(type(value) is kind, name, ascii(value)[:60], f"a value of the type {kind.__name__}",
                "Send one.")
        if kind is str:
            require_text(name, value)
    return dict(values)


def _names(fields: Mapping[str, type]) -> str:
    return ", ".join(fields) or "no value"


def _answering(handler: Handler, read: Callable[[web.Request], Awaitable[Mapping[str, Any]]],
               fields: Mapping[str, type]) -> Route:
    """A handler as aiohttp takes it: its values are checked, its refusals are told as JSON."""
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            given = await handler(request, _checked(await read(request), fields))
        except InputError as refusal:
            return web.json_response({"error": _told(refusal)}, status=404 if isinstance(refusal, NotThere) else 400)
        except web.HTTPException:
            raise
        except Exception:
            logging.exception("Personalize: %s %s failed.", request.method, request.path)
            failed = {"name": "server", "message": "This went wrong inside the extension; the log says what."}
            return web.json_response({"error": failed}, status=500)
        return given if isinstance(given, web.StreamResponse) else web.json_response(given)

    return answer


def _told(refusal: InputError) -> dict[str, str]:
    return {"name": refusal.name, "got": str(refusal.got)[:1000], "expected": refusal.expected, "fix": refusal.fix,
            "message": str(refusal)}
