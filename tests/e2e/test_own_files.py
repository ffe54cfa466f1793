"""The gallery's workflows with a captioner or an edit model: which files they need, and that they run with others."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from comfyui_personalize.benchmarks.evidence.comfy_process import start_comfyui
from comfyui_personalize.tests.e2e.conftest import changed, nodes_of, workflow
from comfyui_personalize.tools.comfyui_server import GraphRefused

EDITOR = {"unet_name", "clip_name1", "clip_name2", "vae_name"}
MISSING = {18: {"clip_name"}, 19: EDITOR, 20: EDITOR}


@pytest.mark.parametrize("number", MISSING)
def test_a_workflow_misses_its_model_files_alone(server, number):
    with pytest.raises(GraphRefused) as error:
        server.client.run(workflow(number))
    named = {each["extra_info"]["input_name"] for found in error.value.node_errors.values()
             for each in found["errors"]}
    assert named == MISSING[number]


@pytest.fixture(scope="module")
def small_files(server, tmp_path_factory) -> Any:
    """Random files of Flux and of Z-Image, whose text encoder writes texts; gone afterwards."""
    if "comfy" not in sys.modules:
        start_comfyui(tmp_path_factory.mktemp("comfyui"))
    from comfyui_personalize.benchmarks.every_family.server.files import write_family

    for name in ("flux", "z_image"):
        write_family(name, server.base / "models")
    yield
    for name in ("flux", "z_image"):
        for file in (server.base / "models").glob(f"*/{name}*.safetensors"):
            file.unlink()


def with_small_files(number: int) -> Any:
    """The workflow with random files in place of the models that it names."""
    graph = changed(workflow(number), "UNETLoader", unet_name="flux.safetensors")
    graph = changed(graph, "VAELoader", vae_name="flux.safetensors")
    graph = changed(graph, "DualCLIPLoader", clip_name1="flux_clip_l.safetensors", clip_name2="flux_t5xxl.safetensors")
    graph = changed(graph, "CLIPLoader", clip_name="z_image_qwen3_4b.safetensors", type="lumina2")
    graph = changed(graph, "EmptySD3LatentImage", width=64, height=64)
    return changed(graph, "TextGenerate", max_length=4)


def saved(graph: Any, outputs: Any) -> dict[str, int]:
    """How many pictures each Save Image node wrote."""
    return {graph[number]["_meta"]["title"]: len(outputs[number]["images"]) for number in nodes_of(graph, "SaveImage")}


@pytest.mark.full
@pytest.mark.usefixtures("small_files")
def test_a_text_models_words_become_a_caption_for_each_photo(server):
    graph = with_small_files(18)
    outputs = server.client.run(graph)
    (shown,) = nodes_of(graph, "PreviewAny")
    captions = outputs[shown]["text"]
    assert len(captions) == 4 and all(text.startswith("a {V} {noun}, ") for text in captions)
    assert saved(graph, outputs) == {"Your subject": 1}


@pytest.mark.full
@pytest.mark.usefixtures("small_files")
def test_an_edit_models_views_are_trained_each_under_its_own_line(server):
    graph = with_small_files(19)
    outputs = server.client.run(graph)
    assert saved(graph, outputs) == {"Views": 4, "Your subject": 1}


@pytest.mark.full
@pytest.mark.usefixtures("small_files")
def test_a_reference_a_lora_and_both_give_three_pictures(server):
    graph = with_small_files(20)
    assert saved(graph, server.client.run(graph)) == {"Reference": 1, "LoRA": 1, "Both": 1}
