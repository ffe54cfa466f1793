"""What earlier versions wrote is found under its old key, loads, and goes on to what they would have made of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import folder_paths
import pytest
import torch
from run_node import run_node
from sample_graphs import CLASS_IMAGES, LONG, SAMPLES, SHORT, class_images, keys, noun_evidence, trained_graphs
from tiny_model import tiny_checkpoint, tiny_models
from trainer_rig import equal, train, use_store

from comfyui_personalize.core.store.files import read_tensors
from comfyui_personalize.core.training.trainer import Trainer
from comfyui_personalize.nodes.bridge.dci import noun_evidence as evidence
from comfyui_personalize.nodes.bridge.sampling.class_images import ClassImageSampler
from comfyui_personalize.nodes.load_personalization import LoadPersonalization

pytestmark = pytest.mark.usefixtures("inference_mode", "same_random_weights")
RUNS = ("adapter", "everything", "weights", "words")


@pytest.fixture(scope="module")
def same_random_weights():
    """The tiny model is drawn at random; a machine whose torch draws otherwise has another model, with other keys."""
    noted = json.loads((SAMPLES / "machine.json").read_text())
    drawn = torch.randn(4096, generator=torch.Generator().manual_seed(0)).numpy().tobytes()
    if hashlib.sha256(drawn).hexdigest() != noted["normal_draws"]:
        pytest.skip("torch draws other normal numbers here than where the samples were made")
    assert hashlib.sha256(tiny_checkpoint().read_bytes()).hexdigest() == noted["tiny_checkpoint"]


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch) -> Path:
    """The samples as an output folder, a LoRA folder and an embeddings folder."""
    runs = use_store(tmp_path, monkeypatch)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings",
                        ([str(tmp_path / "embeddings")], folder_paths.supported_pt_extensions))
    folder_paths.filename_list_cache.pop("embeddings", None)
    shutil.copytree(SAMPLES / "personalize", runs)
    for kind in ("loras", "embeddings"):
        shutil.copytree(SAMPLES / kind, tmp_path / kind, dirs_exist_ok=True)
    return runs


@pytest.fixture
def models():
    return tiny_models()


def is_close(got, expected) -> bool:
    """Equal but for the last bits, in which processors differ."""
    return got.keys() == expected.keys() and all(
        torch.allclose(got[name].float(), expected[name].float(), rtol=1e-4, atol=1e-6) for name in got)


def folders(runs: Path) -> list[str]:
    return sorted(path.name for path in runs.iterdir() if not path.name.startswith("."))


def forbid(monkeypatch, owner, name: str) -> None:
    def used(*_, **__):
        raise AssertionError(f"{name} was called although the result lies on disk")

    monkeypatch.setattr(owner, name, used)


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_is_found_and_loaded_without_training(models, store, monkeypatch, name):
    forbid(monkeypatch, Trainer, "steps")
    outputs = train(models, **trained_graphs(models)[name], steps=SHORT, run_name="another name")
    assert f"run {name}: loaded {SHORT} steps, nothing to train" in outputs[6] and folders(store) == sorted(RUNS)
    assert equal(outputs[2], read_tensors(store / name / f"adapter-{SHORT:06d}.safetensors")[0])
    assert len(outputs[3]["loss"]) == SHORT


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_to_what_its_own_version_would_have_trained(models, store, name):
    outputs = train(models, **trained_graphs(models)[name], steps=LONG, run_name=name)
    assert f"run {name}: trained {LONG - SHORT} steps, resumed from step {SHORT}" in outputs[6]
    for kind in ("adapter", "words"):
        expected = SAMPLES / "expected" / f"{name}-{kind}.safetensors"
        if expected.exists():
            got = read_tensors(store / name / f"{kind}-{LONG:06d}.safetensors")[0]
            assert is_close(got, read_tensors(expected)[0]), kind
    assert folders(store) == sorted(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_saved_personalization_loads_without_a_warning(models, tmp_path, name):
    models[1].tokenizer.clip_l.embedding_directory = [str(tmp_path / "embeddings")]
    saved = f"sample/{name}.safetensors"
    assert saved in LoadPersonalization.define_schema().inputs[0].options
    assert LoadPersonalization.validate_inputs(saved) is True
    model, clip, identifier, noun, report = run_node(
        LoadPersonalization, name=saved, model=models[0], clip=models[1], strength_model=1.0, strength_clip=1.0)
    has_words = name in ("everything", "words")
    assert (identifier, noun) == (f"embedding:sample/{name}" if has_words else "sks", "dog")
    assert "Warning" not in report and "steps: 2" in report
    assert bool(model.patches) == (name != "words")


def test_contexts_beside_an_adapter_can_be_read(tmp_path):
    tensors, metadata = read_tensors(tmp_path / "loras" / "sample" / "everything.contexts")
    assert metadata["identifiers"] == ["sks"]
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        f"learned{part}{photo}.clip_l": (count, 64) for part, count in (("prefix", 2), ("suffix", 1))
        for photo in (0, 1)}


def test_a_pool_of_class_images_is_found_and_only_the_batch_that_misses_one_is_sampled(models, monkeypatch):
    sampled = []
    original = ClassImageSampler.__call__
    monkeypatch.setattr(ClassImageSampler, "__call__",
                        lambda self, indices: (sampled.extend(indices), original(self, indices))[1])
    (pool,) = class_images(models)
    assert not sampled and len(pool.latents) == CLASS_IMAGES["count"]
    (more,) = class_images(models, count=4)
    assert sampled == [2, 3] and torch.equal(more.latents[:3], pool.latents)


def test_encoded_photos_are_found(models, monkeypatch):
    """Texts are encoded again: their old names did not say how the encoder's file is read."""
    from comfyui_personalize.nodes.bridge.photos import latents as images

    forbid(monkeypatch, images, "encode_view")
    train(models, **trained_graphs(models)["adapter"], steps=LONG, run_name="adapter")


def test_evidence_for_a_noun_is_found(models, monkeypatch):
    forbid(monkeypatch, evidence, "denoising_errors")
    assert noun_evidence(models) == json.loads((SAMPLES / "noun_evidence.json").read_text())["score"]


def test_every_graph_keeps_its_run_key(models):
    noted = json.loads((SAMPLES / "keys.json").read_text())
    assert len(set(noted.values())) == len(noted) and keys(models) == noted
