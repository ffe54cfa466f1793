"""While it trains, the node says how it goes."""

from __future__ import annotations

import re

import pytest
from tiny_model import tiny_models
from trainer_rig import train, use_store

from comfyui_personalize.nodes.bridge.training import loop

pytestmark = pytest.mark.usefixtures("inference_mode")
LINE = re.compile(r"step (\d) of 4 · loss [\d.e+-]+ · [\d.e+-]+ s/step · \d+ s left · \d+\.\d GB")


def test_the_line_stands_on_the_node_at_the_last_step(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(loop, "show_on_running_node", said.append)
    use_store(tmp_path, monkeypatch)
    train(tiny_models(), steps=4)
    found = LINE.fullmatch(said[-1])
    assert found is not None and found[1] == "4", said
