"""The nodes, and the extension that ComfyUI loads. A file with a node class that is put here is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from comfy_api.v0_0_2 import ComfyExtension, io

from .bridge.queue.linked_inputs import with_checked_sockets
from .bridge.queue.settings_checks import with_settings_check
from .comfyui_changes import make_changes


def _discover() -> list[type[io.ComfyNode]]:
    """The node classes of every file in this folder, in the order of the files' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}")
               for found in pkgutil.iter_modules(__path__) if not found.ispkg]
    return [with_settings_check(with_checked_sockets(value)) for module in modules for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, io.ComfyNode) and value.__module__ == module.__name__]


NODES: list[type[io.ComfyNode]] = _discover()


class PersonalizeExtension(ComfyExtension):
    """Makes the changes that `comfyui_changes` lists, before any loader looks for the pocket model, and hands over the
    nodes."""

    async def on_load(self) -> None:
        self.undo = make_changes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
