"""Routes to the run that trains: GET /personalize/training tells how it goes, POST /personalize/training/draw and
/personalize/training/pause ask it, each with {"run": its key}."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ....core.errors import require
from ..training.control import RUNNING, Control
from .routes import NotThere, change_route, read_route


async def tell_training(_: web.Request, __: dict[str, Any]) -> list[dict[str, Any]]:
    """What trains at the moment: run, name and node of each, and how it goes."""
    return [{"run": one.run, "name": one.name, "node": one.node, "draws": one.draws, **one.shown}
            for one in list(RUNNING.values())]


async def draw(_: web.Request, values: dict[str, Any]) -> dict[str, Any]:
    """Ask for a picture after the current step."""
    found = _found(values["run"])
    require(found.draws, "run", ascii(found.name), "a run that samples pictures", "Wait for its end.")
    found.ask_picture()
    return {"run": values["run"]}


async def pause(_: web.Request, values: dict[str, Any]) -> dict[str, Any]:
    """Ask for the end after the current step, with everything kept."""
    _found(values["run"]).ask_pause()
    return {"run": values["run"]}


def _found(run: str) -> Control:
    found = RUNNING.get(run)
    if found is None:
        raise NotThere("run", ascii(run)[:80], "the key of a run that trains at the moment",
                       "It has ended, or never began: GET /personalize/training lists what trains.")
    return found


TRAINING_ROUTES = (read_route("/training", tell_training), change_route("/training/draw", draw, {"run": str}),
                   change_route("/training/pause", pause, {"run": str}))
