"""Who asks, on a server that tells users apart (--multi-user): of a route, and of a graph when it is queued.

ComfyUI's editor sends the user's id with every request, and ComfyUI keeps settings and workflows of each apart; graphs
that are queued do not know whose they are, so the id is noted beside them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from aiohttp import web
from comfy.cli_args import args
from server import PromptServer

from ....core.errors import InputError
from ..queued import USER

ASKING: ContextVar[str] = ContextVar("personalize_user", default="")
QUEUE_PATHS = ("/prompt", "/api/prompt")


def user_of(request: web.Request) -> str | None:
    """The user's id; None where users are not told apart.

    Raises:
        InputError: a user that ComfyUI does not know.
    """
    if not args.multi_user:
        return None
    try:
        return str(PromptServer.instance.user_manager.get_request_user_id(request))
    except KeyError as reason:
        raise InputError("user", ascii(request.headers.get("comfy-user", "nothing"))[:80],
                         "the id of a user of this server", "Open ComfyUI and choose your user.") from reason


@web.middleware
async def note_asking(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Remember who queues a graph while the graph is looked at."""
    if request.method == "POST" and request.path in QUEUE_PATHS:
        try:
            ASKING.set(user_of(request) or "")
        except InputError:  # ComfyUI takes the graph all the same; it is nobody's
            ASKING.set("")
    return await handler(request)


def sign_queued(request: dict[str, Any]) -> dict[str, Any]:
    """A request to queue a graph, with the user beside it, whatever it said itself."""
    extra = request.setdefault("extra_data", {})
    if isinstance(extra, dict):
        extra[USER] = ASKING.get()
    return request


def tell_users_apart(server: Any) -> Callable[[], None]:
    """Sign every graph that is queued, on a server that tells users apart.

    Returns:
        What undoes it.
    """
    if not args.multi_user or sign_queued in server.on_prompt_handlers:
        return lambda: None
    handlers, middlewares = server.on_prompt_handlers, server.app.middlewares
    handlers.append(sign_queued)
    middlewares.append(note_asking)

    def undo() -> None:
        for entries, ours in ((handlers, sign_queued), (middlewares, note_asking)):
            if ours in entries:
                entries.remove(ours)

    return undo
