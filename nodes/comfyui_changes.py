"""Every change that loading the extension makes to a user's ComfyUI: what, why, and how it is undone.

Nothing else is changed: nodes, help pages, templates and the pop-ups of `web` go the ways that ComfyUI has for them.
docs/comfyui_changes.md is written from this file. What a running node changes, it undoes itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import folder_paths
from comfy import clip_vision, supported_models
from server import PromptServer

from .bridge.pocket_files import flawed_files
from .bridge.queue.graph_check import watch_queue
from .bridge.server.routes import add_routes
from .bridge.server.runs import RUN_ROUTES
from .bridge.server.training import TRAINING_ROUTES
from .bridge.server.users import tell_users_apart
from .examples import list_example_personalizations, provide_example_photos

Undo = Callable[[], None]
FAILED = "Personalize goes on without this: %s"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change.

    Attributes:
        what: is changed, as users and authors of other nodes would look for it.
        why: the extension needs it.
        undone: how.
        make: it; a second time changes nothing more. Gives what takes it back.
    """

    what: str
    why: str
    undone: str
    make: Callable[[], Undo]


def make_changes() -> Undo:
    """Make every change that can be made, and log those that cannot: the nodes work on any other checkpoint.

    Returns:
        What takes them back, the last one first. Called a second time it changes nothing.
    """
    made: list[Undo] = []
    for change in CHANGES:
        try:
            made.append(change.make())
        except (ImportError, OSError) as error:  # files that were left out, a folder that cannot be written
            logging.warning(FAILED + " (%s: %s)", change.what, type(error).__name__, error)
        except Exception:  # ComfyUI has to start
            logging.exception(FAILED, change.what)

    def undo() -> None:
        while made:
            made.pop()()

    return undo


def _adding(make: Callable[[], None], *lists: list[Any]) -> Undo:
    """Make a change that adds to lists, whole or not at all. Gives what takes out again what it added."""
    before = [list(known) for known in lists]
    try:
        make()
    except Exception:
        _take_out(lists, _added(lists, before))
        raise
    added = _added(lists, before)
    return lambda: _take_out(lists, added)


def _added(lists: Sequence[list[Any]], before: Sequence[list[Any]]) -> list[list[Any]]:
    return [[entry for entry in known if entry not in then] for known, then in zip(lists, before, strict=True)]


def _take_out(lists: Sequence[list[Any]], added: Sequence[list[Any]]) -> None:
    for known, entries in zip(lists, added, strict=True):
        for entry in entries:
            with suppress(ValueError):  # someone else took it out
                known.remove(entry)


def _folders(kind: str) -> list[str]:
    """Where ComfyUI looks for files of a kind: its own list."""
    paths: list[str] = folder_paths.folder_names_and_paths[kind][0]
    return paths


def _pocket_models() -> Undo:
    from ..pocket.comfyui.registration import register_models

    return _adding(register_models, supported_models.models)


def _pocket_folders() -> Undo:
    from ..pocket.comfyui.registration import list_folders

    for flaw in flawed_files().values():
        logging.warning("Personalize: %s", flaw)
    return _adding(list_folders, _folders("checkpoints"), _folders("clip_vision"))


def _pocket_image_tower() -> Undo:
    from ..pocket.comfyui.image_tower import register_image_tower

    before = clip_vision.load_clipvision_from_sd
    register_image_tower()
    after = clip_vision.load_clipvision_from_sd

    def undo() -> None:
        if clip_vision.load_clipvision_from_sd is after:  # else another extension calls it from its own
            clip_vision.load_clipvision_from_sd = before

    return undo


def _example_personalizations() -> Undo:
    return _adding(list_example_personalizations, _folders("loras"))


def _queue() -> Undo:
    server = getattr(PromptServer, "instance", None)
    return _adding(watch_queue, *([] if server is None else [server.on_prompt_handlers]))


def _routes() -> Undo:
    server = getattr(PromptServer, "instance", None)
    return (lambda: None) if server is None else add_routes(server.routes._items, ROUTES)


def _users() -> Undo:
    server = getattr(PromptServer, "instance", None)
    return (lambda: None) if server is None else tell_users_apart(server)


def _example_photos() -> Undo:
    provide_example_photos()
    return lambda: None


ROUTES = (*TRAINING_ROUTES, *RUN_ROUTES)
"""All that the server answers of ours."""
CHANGES = (
    Change(what="`comfy.supported_models.models` has three configurations more: PocketModel, FirstPocketModel, "
                "PocketUpscaler",
           why="the stock checkpoint loader finds a checkpoint's family in this list alone; their widths match no "
               "other model", undone="taken out of the list", make=_pocket_models),
    Change(what="the folders of the pocket models are listed under checkpoints and clip_vision",
           why="the loaders offer the files without a download or a copy", undone="taken out of the lists",
           make=_pocket_folders),
    Change(what="`comfy.clip_vision.load_clipvision_from_sd` is wrapped",
           why="CLIPVisionLoader has no list of image towers that the pocket's could join; every other tower goes on "
               "to the function that was there",
           undone="the function that was there is put back, unless another extension has wrapped it since",
           make=_pocket_image_tower),
    Change(what="the folder of saved examples is listed under loras",
           why="templates load a personalization that comes with them", undone="taken out of the list",
           make=_example_personalizations),
    Change(what="the server has an `on_prompt` handler more",
           why="some mistakes, such as DCI prompts on a MODEL without DCI, show in the whole graph alone; it warns, "
               "and changes no graph", undone="taken out of the list", make=_queue),
    Change(what="the server answers under `/personalize/`",
           why="buttons on nodes talk to a run while it trains, the tab Personalizations lists, renames and deletes "
               "runs; what changes something takes POST, and only from the server's own pages",
           undone="taken out of the list", make=_routes),
    Change(what="with `--multi-user` the server has an `on_prompt` handler and a middleware more",
           why="a queued graph does not know whose it is; the user's id is put beside it, so that runs are listed to "
               "those who asked for them alone", undone="taken out of the lists", make=_users),
    Change(what="example photos `personalize_*.png` lie in the input folder, those of the dog also in its folder "
                "`personalize_dog`, with the file `.personalize_examples`",
           why="the editor offers Load Image what lies there; each is copied once, never over a file, and stays away "
               "when it was removed",
           undone="not by itself: the files are yours. Delete them", make=_example_photos),
)
"""In the order in which they are made."""
