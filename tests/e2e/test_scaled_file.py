"""A scaled 8-bit file through the real server: stock loaders, our nodes, and back from the saved LoRA by the stock
loader on the same 8-bit file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comfyui_personalize.benchmarks.every_family.server.figures import wrong
from comfyui_personalize.benchmarks.evidence.comfy_process import start_comfyui

ROUNDED = {"picture_error", "same_pixels", "preview_error"}
"""What differs where the stock loader rounds a LoRA into weights of 8 bits, which the trainer's MODEL has beside."""


@pytest.mark.full
def test_photos_become_a_file_that_the_stock_loader_puts_on_the_scaled_model(tmp_path, tmp_path_factory):
    if "comfy" not in sys.modules:
        start_comfyui(tmp_path_factory.mktemp("comfyui"))
    sys.path.append(str(Path(__file__).parents[1] / "nodes"))
    from quantised_models import STORED, quantise
    from safetensors.torch import load_file, save_file

    from comfyui_personalize.benchmarks.every_family.server import journey

    def store(path: Path) -> None:
        save_file(quantise(load_file(path), STORED["scaled fp8"])[0], path)

    with journey.families_server(tmp_path) as server:
        record = journey.travel("flux", server, server.client.object_info(), store)
    assert set(wrong(record)) <= ROUNDED, record
    assert record["picture_error"] < 0.1, record
