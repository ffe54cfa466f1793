"""The checkout is importable as the package `comfyui_personalize`, whatever its directory is called.

ComfyUI loads the checkout under a name made of its path, and everything inside imports relatively; tests need
one fixed name. Nothing here needs ComfyUI: the tests of `core` run without it.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import os
import sys
import types
from pathlib import Path

# One thread: equal bits for equal seeds, and no fight over a small machine's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "comfyui_personalize"


def register_package() -> None:
    """Put the checkout into `sys.modules` as the package `comfyui_personalize`."""
    if not (ROOT / "__init__.py").exists():
        sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
        sys.modules[PACKAGE].__path__ = [str(ROOT)]
        return
    spec = importlib.util.spec_from_file_location(PACKAGE, ROOT / "__init__.py",
                                                  submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


# `python -m pytest` puts the checkout itself on the path, where `nodes` would hide ComfyUI's module `nodes`.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
if PACKAGE not in sys.modules:
    register_package()


# What all imports made stays, and looking through it takes 0.2 s: many tests ask for a collection, ComfyUI for more.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect what the tests make, and that alone."""
    gc.collect()
    gc.freeze()
    gc.enable()
