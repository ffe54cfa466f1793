"""The nodes, and the extension that ComfyUI loads. A file with a node class that is put here is found by itself."""

from __future__ import annotations

import importlib
import logging
import pkgutil

from comfy_api.latest import ComfyExtension, io

from .bridge.queue.graph_check import watch_queue
from .bridge.queue.linked_inputs import with_checked_sockets
from .examples import list_example_personalizations, provide_example_photos


def _discover() -> list[type[io.ComfyNode]]:
    """The node classes of every file in this folder, in the order of the files' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}")
               for found in pkgutil.iter_modules(__path__) if not found.ispkg]
    return [with_checked_sockets(value) for module in modules for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, io.ComfyNode) and value.__module__ == module.__name__]


NODES: list[type[io.ComfyNode]] = _discover()


class PersonalizeExtension(ComfyExtension):
    """Registers the pocket model before any loader looks for it, watches the queue, and hands over the nodes."""

    async def on_load(self) -> None:
        try:
            from .pocket_model import register_pocket
            from .pocket_second import register_second_pocket
            from .pocket_upscaler import register_pocket_upscaler

            register_pocket()
            register_second_pocket()
            register_pocket_upscaler()
        except Exception:  # the nodes work on any other checkpoint, so start-up must go on
            logging.exception("The pocket checkpoint is not available; every other checkpoint works.")
        watch_queue()
        try:
            list_example_personalizations()
            provide_example_photos()
        except OSError as error:  # a read-only input folder must not stop the nodes
            logging.warning("The example photos could not be copied: %s", error)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
