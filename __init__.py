"""ComfyUI Personalize: teach a text-to-image model your subject from a few photos, inside the graph.

DreamBooth (arXiv:2208.12242), DCI (ECCV 2024) and one-shot prototypical embedding as ComfyUI nodes.
"""

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """The extension, as ComfyUI's loader asks for it."""
    from .nodes import PersonalizeExtension

    return PersonalizeExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
