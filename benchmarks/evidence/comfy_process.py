"""ComfyUI inside this process, on the CPU, with a base directory of the bench's own; import this before any of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from ...tools.comfyui_server import FOLDERS
from ...tools.install_comfyui import comfyui_directory


class Loaded(NamedTuple):
    """MODEL, CLIP and VAE, as CheckpointLoaderSimple gives them."""

    model: Any
    clip: Any
    vae: Any


def start_comfyui(base: Path) -> None:
    """Make ComfyUI importable; its options are read at its first import only."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(comfyui_directory()))
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = str(base)
    args.database_url = "sqlite:///:memory:"


def load_pocket() -> Loaded:
    """The pocket checkpoint through the stock loader."""
    import nodes as stock
    import torch

    from ...pocket.comfyui.registration import register_pocket

    register_pocket()
    with torch.inference_mode():
        return Loaded(*stock.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")[:3])
