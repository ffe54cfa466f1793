"""Files in 8 bits, and packed ones, through the real server: loaders, our nodes, and back from the saved LoRA by the
stock loader on the same file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comfyui_personalize.benchmarks.every_family.server.figures import wrong
from comfyui_personalize.benchmarks.evidence.comfy_process import start_comfyui

pytestmark = pytest.mark.full
ROUNDED = {"picture_error", "same_pixels", "preview_error"}
"""What differs where the stock loader rounds a LoRA into weights of 8 bits, which the trainer's MODEL has beside."""
LOADER = Path(__file__).parents[1] / "nodes" / "gguf_loader"


@pytest.fixture(scope="module", autouse=True)
def quantised_models(tmp_path_factory):
    """The makers of such files, which the tests of nodes have."""
    if "comfy" not in sys.modules:
        start_comfyui(tmp_path_factory.mktemp("comfyui"))
    sys.path.append(str(LOADER.parent))


def test_photos_become_a_file_that_the_stock_loader_puts_on_the_scaled_model(tmp_path):
    from quantised_models import STORED, quantise
    from safetensors.torch import load_file, save_file

    from comfyui_personalize.benchmarks.every_family.server import journey

    def store(path: Path) -> None:
        save_file(quantise(load_file(path), STORED["scaled fp8"])[0], path)

    with journey.families_server(tmp_path) as server:
        record = journey.travel("flux", server, server.client.object_info(), store)
    assert set(wrong(record)) <= ROUNDED, record
    assert record["picture_error"] < 0.1, record


@pytest.mark.parametrize("family", ["flux", "qwen_image"])
def test_photos_become_a_file_that_the_stock_loader_puts_on_the_gguf_model(tmp_path, monkeypatch, family):
    from quantised_models import gguf_file
    from safetensors.torch import load_file

    from comfyui_personalize.benchmarks.every_family.server import graphs, journey

    def store(path: Path) -> None:
        gguf_file(path.with_suffix(".gguf"), load_file(path))

    def load(graph, name):
        found = stock(graph, name)
        return found._replace(model=graph.add(0, "TestLoadGGUF", {"file": f"{name}.gguf"})[0])

    stock = graphs.load
    monkeypatch.setattr(graphs, "load", load)
    with journey.families_server(tmp_path, LOADER) as server:
        record = journey.travel(family, server, server.client.object_info(), store)
    assert set(wrong(record)) <= {"same_pixels"} and record["picture_error"] < 1e-5, record
