"""The workflows of the template gallery: one file each, with a function of the file's name that builds the graph.

`make workflows` writes both of their forms. All of them but those with a captioner or an edit model (18 to 20) run on
the pocket checkpoint as they are; their notes say what to change for Stable Diffusion, and which files they need.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from ..graphs import Graph

SHARED = ("kontext", "notes", "overfitted_example", "parts")
"""What workflows are made of."""


def workflows() -> list[Callable[[], Graph]]:
    """Every workflow's builder, in the order of the gallery's numbers."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name not in SHARED]
    builders = [getattr(importlib.import_module(f"{__name__}.{name}"), name) for name in names]
    return sorted(builders, key=lambda build: build().name)
