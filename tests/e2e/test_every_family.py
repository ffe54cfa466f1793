"""Families through the real server: stock loaders, our nodes, photos to pictures, and back from the saved file."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from comfyui_personalize.benchmarks.every_family.server.figures import wrong
from comfyui_personalize.benchmarks.evidence.comfy_process import start_comfyui

FAMILIES = ("sdxl", "sd35", "flux", "flux2_klein", "chroma", "z_image", "qwen_image", "anima")
QUICK = ("chroma", "z_image")


@pytest.fixture(scope="module")
def journey(tmp_path_factory) -> Any:
    """The module that writes files and runs prompts; it needs ComfyUI's classes in this process."""
    if "comfy" not in sys.modules:
        start_comfyui(tmp_path_factory.mktemp("comfyui"))
    from comfyui_personalize.benchmarks.every_family.server import journey as found

    return found


@pytest.fixture(scope="module")
def nodes(server) -> dict[str, Any]:
    """What the server knows of every node class."""
    return server.client.object_info()


def test_these_are_the_families_that_have_files(journey):
    assert set(FAMILIES) == set(journey.FORMS)


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full)
                                  for name in FAMILIES])
def test_photos_become_a_file_with_which_stock_nodes_draw_the_trainers_picture(journey, server, nodes, name):
    record = journey.travel(name, server, nodes)
    assert wrong(record) == [], record
