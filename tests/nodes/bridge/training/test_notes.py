"""A run that a queued graph asks for gets a graph, a base model and a thumbnail; its weights and its key stay."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from comfy_execution.utils import CurrentNodeContext
from PIL import Image
from server import PromptServer
from tiny_model import tiny_models
from trainer_rig import equal, train, use_store

from comfyui_personalize.core.store.run_list import list_runs
from comfyui_personalize.core.store.run_notes import read_about, read_graph
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings

pytestmark = pytest.mark.usefixtures("inference_mode")
PROMPT = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
          "3": {"class_type": "PersonalizeTrainer", "inputs": {"model": ["1", 0]}}}


def test_a_queued_run_is_noted_and_is_the_same_run(tmp_path, monkeypatch):
    store, models = use_store(tmp_path, monkeypatch), tiny_models()
    plain = train(models)
    (run,) = list_runs(store)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "adapter-000003.safetensors", "run.json", "state.safetensors"]
    queue = SimpleNamespace(get_current_queue_volatile=lambda: ([(1, "this", PROMPT, {}, [], {})], []))
    server = SimpleNamespace(prompt_queue=queue, send_progress_text=lambda *_: None, send_sync=lambda *_: None,
                             client_id=None)
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    with CurrentNodeContext("this", "3"):
        again = train(models, preview=PreviewSettings(prompt="a sks dog", steps=1))
    assert "nothing to train" in again[6] and equal(plain[2], again[2]) and list_runs(store) == [run]
    assert read_about(run.folder).base_model == "sd15.safetensors"
    assert read_graph(run.folder) == {"prompt": PROMPT}
    assert Image.open(io.BytesIO((run.folder / "thumbnail.jpg").read_bytes())).size == (512, 256)
    (run.folder / "thumbnail.jpg").unlink()
    with CurrentNodeContext("this", "3"):
        train(models)
    assert Image.open(io.BytesIO((run.folder / "thumbnail.jpg").read_bytes())).size == (256, 256)
