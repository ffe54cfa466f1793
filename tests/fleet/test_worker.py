"""What a worker brings home."""

from __future__ import annotations

import shutil

import pytest

from comfyui_personalize.fleet.storage import Storage
from comfyui_personalize.fleet.worker import ComfyWorker, embeddings_of
from comfyui_personalize.tools.install_comfyui import ROOT

SAMPLES = ROOT / "tests" / "samples"


@pytest.fixture
def worker(tmp_path):
    """A worker without a server, with the samples as ComfyUI's models."""
    for kind in ("loras", "embeddings"):
        shutil.copytree(SAMPLES / kind, tmp_path / "models" / kind)
    worker = ComfyWorker.__new__(ComfyWorker)
    worker.output = Storage(str(tmp_path / "out"))
    return worker


@pytest.mark.parametrize(("name", "others"), [
    ("adapter", []), ("words", ["embeddings/words.safetensors"]),
    ("everything", ["embeddings/everything.safetensors", "everything.contexts"])])
def test_an_adapter_comes_with_its_own_contexts_and_embeddings_alone(worker, tmp_path, name, others):
    path = tmp_path / "models" / "loras" / "sample" / f"{name}.safetensors"
    shutil.copy(path, path.with_name(f"{name}.2.safetensors"))
    found = worker._adapter("rex", path)
    assert sorted(found) == sorted([f"{name}.safetensors", *others])
    assert (tmp_path / "out" / "rex" / f"{name}.safetensors").read_bytes() == path.read_bytes()
    for embedding in embeddings_of(path):
        source = tmp_path / "models" / "embeddings" / f"{embedding}.safetensors"
        target = tmp_path / "out" / "rex" / "embeddings" / source.name
        assert target.read_bytes() == source.read_bytes()
