"""A file that anybody changed, damaged or made up is read as it is, or refused by an error that names it."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from run_node import run_node
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sample_graphs import LONG, SAMPLES, request, trained_graphs
from trainer_rig import equal, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store.files import read_tensors, write_tensors
from comfyui_personalize.core.store.runs import Run
from comfyui_personalize.core.training.run import restore
from comfyui_personalize.nodes.bridge.files.embeddings import identifiers, load_embeddings
from comfyui_personalize.nodes.bridge.files.personalizations import check_file, describe, list_personalizations
from comfyui_personalize.nodes.bridge.training.checks import check
from comfyui_personalize.nodes.bridge.training.run import prepared
from comfyui_personalize.nodes.load_personalization import LoadPersonalization
from comfyui_personalize.nodes.save_personalization import SavePersonalization

pytestmark = pytest.mark.usefixtures("inference_mode")
KINDS = ("adapter", "everything", "weights", "words")
ODD: tuple[Any, ...] = (None, True, -1, 0, 3, 10**30, 0.5, -1e300, "", "x", "../../x", "a\0b", "\ud800", "x" * 200_000,
                        [], [None], [[]], ["x", 3], {}, {"x": {}}, {"sks": "../x"}, [{"step": "x"}], math.inf)


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


def text_of(path: Path) -> str:
    with safe_open(path, "pt") as file:
        return file.metadata()["personalize"]


def rewrite(path: Path, text: str, tensors: dict[str, Any] | None = None) -> None:
    """The file as another program would write it: this metadata, no checksum that agrees."""
    save_file(load_file(path) if tensors is None else tensors, path, metadata={"personalize": text})


def mutants(value: Any, seed: int, count: int) -> Iterator[tuple[str, Any]]:
    """So many copies of the value with one entry, at any depth, missing or replaced by an odd one; each top entry by
    every odd one first."""
    def places(inner: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for key in (list(inner) if isinstance(inner, dict) else range(min(len(inner), 2)) if isinstance(inner, list)
                    else ()):
            yield (*above, key)
            yield from places(inner[key], (*above, key))

    changes = [(place, odd) for place in places(value) for odd in ("missing", *ODD)]
    random.Random(seed).shuffle(changes)
    changes.sort(key=lambda change: len(change[0]) > 1)
    for place, odd in changes[:count]:
        changed = copy.deepcopy(value)
        owner = changed
        for key in place[:-1]:
            owner = owner[key]
        if odd == "missing":
            del owner[place[-1]]
        else:
            owner[place[-1]] = odd
        yield f"{place} = {str(odd)[:30]!r}", changed


def as_text(value: Any) -> str:
    return json.dumps(value)


@pytest.mark.parametrize("kind", KINDS)
def test_any_entry_of_an_adapters_metadata_may_be_anything(tmp_path, kind):
    name, path = f"sample/{kind}.safetensors", tmp_path / "loras" / "sample" / f"{kind}.safetensors"
    tensors, refused, kept = {"x": torch.zeros(1)}, 0, 0
    for what, changed in mutants(json.loads(text_of(path)), seed=1, count=500):
        rewrite(path, as_text(changed), tensors)
        try:
            metadata = check_file(name)
            assert describe(metadata) and identifiers(metadata), what
            load_embeddings(metadata)
            kept += 1
        except InputError as error:
            assert str(path) in str(error) or error.name == "embedding", what
            refused += 1
        assert "identifiers" not in changed or isinstance(LoadPersonalization.validate_inputs(name), bool | str)
    assert refused > 200 and kept > 50


def test_any_entry_of_a_states_metadata_may_be_anything(models, store):
    run = Run(store / "words", json.loads((store / "words" / "run.json").read_text())["key"])
    tensors = load_file(run.state_path)
    metadata, refused, kept = json.loads(text_of(run.state_path)), 0, 0
    asked = request(models, **trained_graphs(models)["words"], steps=LONG, learning_rate=1e-3, seed=1)
    with prepared(check(asked)) as (trainer, _):
        for what, changed in mutants(metadata, seed=2, count=400):
            rewrite(run.state_path, as_text(changed), tensors)
            try:
                saved = run.load_state()
                assert saved is not None, what
                restore(trainer, run, saved)
                next(trainer.steps())
                kept += 1
            except InputError as error:
                assert str(run.state_path) in str(error), what
                refused += 1
    assert refused > 100 and kept > 50


TEXTS = {
    "nested lists": "[" * 100_000, "nested objects": '{"a":' * 100_000, "closed": "[" * 900 + "]" * 900,
    "in an entry": '{"identifiers": ' + "[" * 500 + "]" * 500 + "}", "nothing": "", "null": "null", "a number": "3",
    "a name twice": '{"identifiers": ["a"], "identifiers": ["b"]}', "NaN": '{"identifiers": [NaN]}',
    "half a character": '{"identifiers": ["\\ud800"]}', "5,000 digits": '{"identifiers": ' + "9" * 5000 + "}",
    "infinity": '{"identifiers": [1e999]}',
}


@pytest.mark.parametrize("what", TEXTS)
def test_metadata_that_is_no_plain_object_is_refused_and_leaves_the_node_in_the_editor(tmp_path, what):
    path = tmp_path / "loras" / "odd.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"personalize": TEXTS[what]})
    folder_paths.filename_list_cache.pop("loras", None)
    assert "sample/adapter.safetensors" in LoadPersonalization.define_schema().inputs[0].options
    assert str(path) in str(LoadPersonalization.validate_inputs("odd.safetensors"))


def test_whatever_lies_in_the_lora_folder_the_node_stays_in_the_editor(tmp_path):
    loras = tmp_path / "loras"
    (loras / "folder.safetensors").mkdir()
    (loras / "link.safetensors").symlink_to(loras / "nowhere")
    (loras / "round.safetensors").symlink_to(loras / "round.safetensors")
    (loras / "huge.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    (loras / "zeros.safetensors").write_bytes(bytes(4096))
    (loras / "empty.safetensors").touch()
    os.mkfifo(loras / "pipe.safetensors")
    with open(os.fsencode(loras) + b"/caf\xe9.safetensors", "wb") as file:
        file.write((loras / "sample" / "words.safetensors").read_bytes())
    (loras / "secret.safetensors").write_bytes(b"x")
    (loras / "secret.safetensors").chmod(0)
    folder_paths.filename_list_cache.pop("loras", None)
    assert list_personalizations() == [f"sample/{kind}.safetensors" for kind in sorted(KINDS)]
    for name in ("folder", "link", "round", "huge", "zeros", "empty", "pipe", "secret"):
        assert isinstance(LoadPersonalization.validate_inputs(f"{name}.safetensors"), str), name


def test_a_file_of_a_newer_version_is_listed_and_refused_in_one_sentence(tmp_path):
    path = tmp_path / "loras" / "sample" / "adapter.safetensors"
    rewrite(path, json.dumps(json.loads(text_of(path)) | {"version": 2}))
    assert "sample/adapter.safetensors" in list_personalizations()
    assert "a file of version 2, expected version 1 or older. A newer version of this extension wrote it: update" in \
        str(LoadPersonalization.validate_inputs("sample/adapter.safetensors"))


# Tensors

def load(models, name="sample/adapter.safetensors"):
    return run_node(LoadPersonalization, name=name, model=models[0], clip=models[1], strength_model=1.0,
                    strength_clip=1.0)


def broken(change: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = next(name for name in tensors if name.endswith("lora_up.weight"))
    layer = name.removesuffix(".lora_up.weight")
    if change == "NaN":
        tensors[name][0, 0] = math.nan
    elif change == "missing":
        del tensors[name]
    elif change == "renamed":
        tensors[name.replace("lora_up", "lora_uq")] = tensors.pop(name)
    elif change == "renamed layer":
        tensors[f"{layer}x.lora_up.weight"] = tensors.pop(name)
    elif change == "alpha":
        tensors[f"{layer}.alpha"] = torch.ones(3)
    else:
        tensors[name] = torch.zeros(64, 5)
    return tensors


@pytest.mark.parametrize(("change", "message"), [
    ("NaN", "NaN or infinite values in"), ("missing", "only alpha, lora_down.weight of the layer"),
    ("renamed", "a tensor '.*lora_uq.weight'"), ("renamed layer", "only .* of the layer"),
    ("alpha", r"alpha of shape \(3,\), expected one number"), ("shape", "expected one rank for both")])
def test_tensors_that_do_not_belong_together_are_refused(models, tmp_path, change, message):
    path = tmp_path / "loras" / "sample" / "adapter.safetensors"
    rewrite(path, text_of(path), broken(change, load_file(path)))
    with pytest.raises(InputError, match=f"file: got {path}.*{message}"):
        load(models)


def test_an_adapter_that_another_program_changed_loads_with_a_warning_that_names_it(models, tmp_path):
    path = tmp_path / "loras" / "sample" / "adapter.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata)
    assert "Warning" not in load(models)[4]
    rewrite(path, text_of(path), {name: tensor / 2 for name, tensor in tensors.items()})
    assert f"Warning: {path} is not as it was saved (its checksum differs)" in load(models)[4]


def test_layers_that_the_model_lacks_are_warned_about(models, tmp_path):
    path = tmp_path / "loras" / "sample" / "adapter.safetensors"
    tensors = load_file(path)
    layer = next(iter(tensors)).rpartition(".")[0].removesuffix(".lora_down").removesuffix(".lora_up")
    moved = {name.replace(layer, "lora_unet_elsewhere"): tensor for name, tensor in tensors.items()}
    rewrite(path, text_of(path), moved)
    assert "1 of 14 layers" in load(models)[4] and "lora_unet_elsewhere" in load(models)[4]


@pytest.mark.parametrize("tensors", [{}, {"clip_x": torch.zeros(2, 64)}, {"clip_l": torch.zeros(64)},
                                     {"clip_l": torch.zeros(0, 64)}, {"clip_l": torch.full((2, 64), math.nan)},
                                     {"clip_l": torch.zeros(2, 65)}])
def test_an_embedding_of_other_names_or_shapes_is_refused(models, tmp_path, tensors):
    path = tmp_path / "embeddings" / "sample" / "words.safetensors"
    rewrite(path, text_of(path), tensors)
    with pytest.raises(InputError, match=f"{path}|width"):
        load(models, "sample/words.safetensors")


def test_an_embedding_that_was_changed_is_warned_about(models, tmp_path):
    path = tmp_path / "embeddings" / "sample" / "words.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata)
    rewrite(path, text_of(path), {"clip_l": tensors["clip_l"] * 2})
    assert f"Warning: {path} is not as it was saved" in load(models, "sample/words.safetensors")[4]


def test_a_class_image_with_a_flipped_bit_is_made_again_to_the_same_bits(models, store):
    from sample_graphs import class_images

    shutil.rmtree(store / ".class_images")
    (pool,) = class_images(models)
    for path in sorted(store.glob(".class_images/*/*.safetensors"))[:2]:
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    assert torch.equal(class_images(models)[0].latents, pool.latents)


def test_saving_what_an_older_version_saved_makes_no_second_file(models, tmp_path):
    from trainer_rig import train

    result = train(models, **trained_graphs(models)["everything"], steps=2, run_name="everything")[5]
    (path,) = run_node(SavePersonalization, personalization=result, name="sample/everything")
    assert Path(path) == tmp_path / "loras" / "sample" / "everything.safetensors"
    assert equal(load_file(path), load_file(SAMPLES / "loras" / "sample" / "everything.safetensors"))
