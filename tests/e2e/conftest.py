"""One real server for all end-to-end tests, and the gallery's workflows cut down to seconds."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from comfyui_personalize.benchmarks.every_family.server import SHRUNK
from comfyui_personalize.tools.comfyui_server import Server
from comfyui_personalize.tools.install_comfyui import ROOT, link

SMALL = {
    "PersonalizeTrainer": {"steps": 4, "resolution": 64, "batch": 1},
    "PriorSampleGen": {"count": 2, "size": 64, "steps": 2, "batch": 2},
    "IdentifierPicker": {"candidates": 2},
    "PersonalizeFromPhotos": {"effort": "quick", "steps": 2, "pictures": 1},
    "PersonalizeTrainingOptions": {"save_every": 2},
    "EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "KSampler": {"steps": 2},
    "PersonalizePrototypicalEmbedding": {"fit_steps": 2},
    "PersonalizeDCIMasks": {"steps": 3},
    "PersonalizeSuperResolution": {"steps": 2, "preview_photos": 1, "preview_steps": 1},
    "PersonalizeEvaluate": {"prompts": "a {V} {noun} in the snow", "seeds": 1, "size": 64, "steps": 2,
                                "class_pictures": 1},
    "PersonalizeAuxiliaryNounPicker": {"candidates": "cat, fish", "pictures": 1, "size": 64, "steps": 2},
}
Graph = dict[str, dict[str, Any]]


def nodes_of(graph: Graph, class_type: str) -> list[str]:
    """The ids of a class's nodes."""
    return [number for number, node in graph.items() if node["class_type"] == class_type]


def changed(graph: Graph, class_type: str, **inputs: Any) -> Graph:
    """A copy in which every node of a class has other inputs."""
    graph = copy.deepcopy(graph)
    for number in nodes_of(graph, class_type):
        graph[number]["inputs"].update(inputs)
    return graph


def workflow(number: int) -> Graph:
    """A gallery workflow in API form, small enough for a test."""
    (path,) = (ROOT / "workflows" / "api").glob(f"{number:02d} *.json")
    graph = json.loads(path.read_text(encoding="utf-8"))
    for class_type, inputs in SMALL.items():
        graph = changed(graph, class_type, **inputs)
    return graph


def only(graph: Graph, *wanted: str) -> Graph:
    """The nodes with these ids and all that they need."""
    kept: Graph = {}

    def keep(number: str) -> None:
        if number not in kept:
            kept[number] = graph[number]
            for value in graph[number]["inputs"].values():
                if isinstance(value, list):
                    keep(value[0])

    for number in wanted:
        keep(number)
    return copy.deepcopy(kept)


def training(run_name: str, **trainer: Any) -> Graph:
    """Workflow 1 up to its trainer, with class images; another name is another seed, so that no run is found again."""
    graph = workflow(1)
    graph = only(graph, *nodes_of(graph, "PersonalizeTrainer"))
    return changed(graph, "PersonalizeTrainer", run_name=run_name, seed=zlib.crc32(run_name.encode()), **trainer)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with an empty base directory; it loads the families' small files (test_every_family), too."""
    made = Server(tmp_path_factory.mktemp("e2e"))
    link(made.base / "custom_nodes" / SHRUNK.name, SHRUNK)
    with made as running:
        yield running
