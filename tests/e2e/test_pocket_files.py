"""A real server with pocket files missing or damaged, and without their folder: it starts, and says what mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable

import pytest

from comfyui_personalize.tests.e2e.test_graph_warnings import GRAPH, told
from comfyui_personalize.tools.comfyui_server import GraphRefused, Server
from comfyui_personalize.tools.install_comfyui import ROOT

PHOTOS = {"2": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
          "3": GRAPH["3"], "5": GRAPH["5"]}
COMMAND = "comfy node reinstall comfyui-personalize"


@pytest.fixture
def copied(tmp_path):
    """A server, not yet started, with a copy of the extension (hard links: replace files, never write into them)."""
    server = Server(tmp_path / "base")
    place = server.base / "custom_nodes" / "comfyui-personalize"
    place.unlink()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if not name.startswith(("docs/", "tests/", ".")) and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(ROOT / name, place / name)
            except OSError:
                shutil.copyfile(ROOT / name, place / name)
    return server, place


def ours(names: Iterable[str]) -> set[str]:
    """The ids of this extension's nodes."""
    return {name for name in names if name.startswith("Personalize")}


def test_a_damaged_and_a_missing_file_are_named_at_the_start_and_when_a_graph_needs_them(copied):
    server, place = copied
    checkpoint = place / "pocket/checkpoints/pocket.safetensors"
    start = checkpoint.read_bytes()[:1_000_000]
    checkpoint.unlink()
    checkpoint.write_bytes(start)
    (place / "pocket/checkpoints/pocket_upscaler.safetensors").unlink()
    with server:
        log = server.log_text()
        assert "pocket/checkpoints/pocket.safetensors is damaged (1,000,000 bytes, its header says" in log
        assert "pocket/checkpoints/pocket_upscaler.safetensors is missing. It comes back with: " + COMMAND in log
        mine, _ = told(server.client.address)
        assert [each for each in mine if each["node"] == "1" and COMMAND in each["text"]]


def test_without_the_pocket_folder_the_server_starts_and_every_other_node_works(copied, server):
    whole, (server, place) = server, copied
    (place / "pocket").rename(place / "elsewhere")
    with server:
        assert ours(server.client.object_info()) == ours(whole.client.object_info()) != set()
        assert server.client.run(PHOTOS)["5"]
        with pytest.raises(GraphRefused):
            server.client.run({"1": GRAPH["1"], "6": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})
        assert "pocket/checkpoints/pocket.safetensors is missing. It comes back with: " + COMMAND in server.log_text()
