"""The real ComfyUI in this process: on the CPU, with a base directory of its own that is gone afterwards."""

from __future__ import annotations

import atexit
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from comfyui_personalize.tools.comfyui_server import FOLDERS
from comfyui_personalize.tools.install_comfyui import comfyui_directory


def make_base_directory() -> Path:
    """A new base directory, removed when the process ends."""
    base = Path(tempfile.mkdtemp(prefix="personalize-nodes-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True)
    return base


def start_comfyui(comfyui: Path, base: Path) -> None:
    """Set ComfyUI's options before its first import; they are read only once."""
    here = Path(__file__).parent  # tiny_model and other rigs, and tests that share theirs
    sys.path[:0] = [str(comfyui), str(here), *(str(folder) for folder in sorted(here.rglob("*/")) if folder.is_dir())]
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = str(base)
    args.database_url = "sqlite:///:memory:"


BASE_DIRECTORY = make_base_directory()
start_comfyui(comfyui_directory(), BASE_DIRECTORY)


@pytest.fixture(scope="session")
def base_directory() -> Path:
    """ComfyUI's base directory of this run: `input`, `output`, `models/loras` and so on are inside."""
    return BASE_DIRECTORY


@pytest.fixture
def inference_mode():
    """ComfyUI's executor runs nodes in inference mode; a test that asks for this fixture runs so too."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the tiny model, for all tests of a file that leave them as they are."""
    from tiny_model import tiny_models

    return tiny_models()


@pytest.fixture(scope="module")
def tiny(models) -> tuple[Any, Any]:
    """MODEL and CLIP alone."""
    return models[:2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty run store and LoRA folder for one test: where its runs are kept."""
    from trainer_rig import use_store

    return use_store(tmp_path, monkeypatch)


@pytest.fixture
def own_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a recipe into a user's folder that has none."""
    import folder_paths

    from comfyui_personalize.nodes.bridge.model.recipes import own_recipes

    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    own_recipes().mkdir(parents=True)

    def write(models: Sequence[str] = ("SD15",), name: str = "mine", **values: Any) -> Path:
        path = own_recipes() / f"{name}.json"
        path.write_text(json.dumps({"version": 1, "models": models, "values": values}))
        return path

    return write
