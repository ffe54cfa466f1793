"""A program of its own: a fresh ComfyUI before the extension is loaded, with it, and after it took its changes back.

    python tests/nodes/comfyui_probe.py COMFYUI BASE_DIRECTORY

It prints a line of JSON for the extension without the pocket's folder, and one for all of it: names of the nodes, what
was changed, and what is still changed afterwards.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "comfyui_personalize"
COMFYUI = ("comfy", "comfy_extras", "comfy_api", "comfy_execution", "folder_paths", "nodes", "node_helpers", "server",
           "execution", "latent_preview")
SUBMODULES = (types.ModuleType,)
"""A package gets its modules as attributes when they are imported: no change of what was there."""


class WithoutPocket:
    """Finds no module of the pocket's folder."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.startswith(f"{PACKAGE}.pocket"):
            raise ModuleNotFoundError(name)


def start_comfyui(comfyui: str, base: str) -> None:
    sys.path.insert(0, comfyui)
    from comfy.cli_args import args

    args.cpu, args.base_directory, args.database_url = True, base, "sqlite:///:memory:"
    for name in ("nodes", "server", "execution", "comfy.sd", "comfy.clip_vision", "comfy.sample", "comfy.samplers",
                 "comfy.weight_adapter.bypass", "comfy.text_encoders.t5", "comfy.ldm.flux.model", "comfy.lora",
                 "comfy_api.v0_0_2", "comfy_extras.nodes_custom_sampler", "comfy_extras.nodes_upscale_model"):
        importlib.import_module(name)
    from aiohttp import web
    from server import PromptServer

    handlers: list[Any] = []
    PromptServer.instance = SimpleNamespace(on_prompt_handlers=handlers, add_on_prompt_handler=handlers.append,
                                            routes=web.RouteTableDef())


def _state() -> dict[str, Any]:
    """Everything that ComfyUI's modules and their classes hold, by its name; of lists, dicts and sets also what is in
    them."""
    state: dict[str, Any] = {}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] in COMFYUI and "site-packages" not in str(getattr(module, "__file__", "")):
            for key, value in list(vars(module).items()):
                state |= _entries(f"{name}.{key}", value)
                if isinstance(value, type) and value.__module__ == name:
                    for attribute, inside in list(vars(value).items()):
                        state |= _entries(f"{name}.{key}.{attribute}", inside)
    from server import PromptServer

    server = PromptServer.instance
    return (state | _entries("PromptServer.instance.on_prompt_handlers", server.on_prompt_handlers)
            | _entries("PromptServer.instance.routes", list(server.routes)))


def _entries(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, SUBMODULES) or name.endswith(("__builtins__", "__abc_impl", "_abc_impl")):
        return {}
    return {name: value, f"{name}[]": _inside(value)}


def _inside(value: Any) -> Any:
    """A copy of a container, three levels deep, with whatever else is in it as it is."""
    if isinstance(value, dict):
        return [(key, _inside(entry)) for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return [_inside(entry) for entry in value]
    return sorted(map(repr, value)) if isinstance(value, set | frozenset) else value


def _is_same(first: Any, second: Any) -> bool:
    if first is second:
        return True
    if isinstance(first, list | tuple) and type(first) is type(second):
        return len(first) == len(second) and all(map(_is_same, first, second))
    return isinstance(first, str | int | float | bool) and first == second


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names that hold something else, or are new in a module that was there."""
    modules = {name.rpartition(".")[0] for name in before}
    new = [name for name in after if name not in before and name.rpartition(".")[0] in modules]
    return sorted({name.removesuffix("[]") for name in before
                   if name not in after or not _is_same(before[name], after[name])} | set(new))


def main(comfyui: str, base: str) -> None:
    start_comfyui(comfyui, base)
    hidden = WithoutPocket()
    sys.meta_path.insert(0, hidden)
    load()
    sys.meta_path.remove(hidden)
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]
    load()


def load() -> None:
    """Load the extension twice and take it back, and print what that changed."""
    before = _state()
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(ROOT)]
    sys.modules[PACKAGE] = package
    extension = importlib.import_module(f"{PACKAGE}.nodes").PersonalizeExtension()
    asyncio.run(extension.on_load())
    loaded = _state()
    asyncio.run(importlib.import_module(f"{PACKAGE}.nodes").PersonalizeExtension().on_load())
    again = _state()
    nodes = [node.__name__ for node in asyncio.run(extension.get_node_list())]
    extension.undo()
    found = {"nodes": nodes, "changed": changed(before, loaded), "again": changed(loaded, again),
             "left": changed(before, _state())}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
