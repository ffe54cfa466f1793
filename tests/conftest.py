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

import pytest

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


MOST_WORKERS = 4
GIB_A_WORKER = 6
"""Of memory: a worker grows to 3.5 GiB, and starts two servers of 1 GiB and a browser."""
LONG_FILES_FIRST = ("fleet", "e2e", "browser", "tools", "benchmarks", "pocket", "nodes", "core")
"""The folders side by side: those that start servers, and core's quick files at the end."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` is: one for each core that this one may use, as far as they have memory."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = psutil.virtual_memory().total // (GIB_A_WORKER << 30)
    return max(1, min(MOST_WORKERS, cores, room))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside other processes no long file comes last, which one would work at while the others have nothing to do."""
    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        return LONG_FILES_FIRST.index(folder) if folder in LONG_FILES_FIRST else -1  # lint, which is long too

    if hasattr(config, "workerinput"):
        items.sort(key=rank)


# What all imports made stays, and looking through it takes 0.2 s: many tests ask for a collection, ComfyUI for more.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect what the tests make, and that alone; also in the process that hands tests to others and collects none."""
    gc.collect()
    gc.freeze()
    gc.enable()
