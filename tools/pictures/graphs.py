"""A workflow's API form for another subject: its photos, noun and file names; every setting stays."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ..install_comfyui import ROOT
from ..workflow_graphs.parts import EXAMPLE_FILE, FILE, OVERFITTED, OVERFITTED_FILE
from ..write_workflows import OVERFITTED_FORM
from .subjects import SECOND_NOUN, Subject, second_noun

API_FORMS: Final = ROOT / "workflows" / "api"
OVERFITTING: Final = "overfitted"
"""In the place of a workflow's number: how the personalization came about that 03 and 12 load."""
SAVED: Final = {EXAMPLE_FILE: FILE, OVERFITTED_FILE: OVERFITTED}
"""The examples that come along, and what the workflow that makes one saves."""
NAMED: Final = ("run_name", "filename_prefix")
CLASS_TITLE: Final = "The class alone"
UNTRAINED_TITLE: Final = "The class alone, untrained"
QUICK: Final[dict[str, dict[str, int]]] = {
    "PersonalizeTrainer": {"steps": 2}, "PersonalizeSuperResolution": {"steps": 2, "preview_steps": 1},
    "PriorSampleGen": {"count": 2, "steps": 2}, "KSampler": {"steps": 3}, "EmptyLatentImage": {"batch_size": 1},
    "PersonalizeDCIMasks": {"steps": 8}, "PersonalizeAuxiliaryNounPicker": {"pictures": 1, "steps": 2},
    "PersonalizePrototypicalEmbedding": {"fit_steps": 2},
}
"""What `--quick` changes: everything runs, nothing is learned."""

Graph = dict[str, Any]


def workflow(number: str) -> tuple[str, Graph]:
    """A workflow's name and API form, by its number, or `OVERFITTING`."""
    path, = [OVERFITTED_FORM] if number == OVERFITTING else API_FORMS.glob(f"{number} *.json")
    return path.stem, json.loads(path.read_text(encoding="utf-8"))


def nodes_of(graph: Graph, class_type: str) -> list[str]:
    """Ids of the nodes of a class."""
    return [key for key, node in graph.items() if node["class_type"] == class_type]


def words_for(who: Subject) -> dict[str, str]:
    """The workflows' nouns -> this subject's; where they speak of the subject's noun as another thing, of a dog."""
    return {who.noun: "dog", SECOND_NOUN: second_noun(who), "dog": who.noun}


def for_subject(graph: Graph, who: Subject, photos: Mapping[str, str]) -> Graph:
    """The graph with another subject in it.

    Args:
        photos: names of the workflows' photos -> this subject's.
    """
    found, words = copy.deepcopy(graph), words_for(who)
    spelled = re.compile(rf"(?<![\w/])({'|'.join(words)})(?![\w.])")
    for node in found.values():
        for name, value in node["inputs"].items():
            if not isinstance(value, str):
                continue
            if node["class_type"] == "LoadImage":
                node["inputs"][name] = photos.get(value, value)
            elif value in SAVED:
                node["inputs"][name] = f"{SAVED[value]}_{who.number}.safetensors"
            elif name in NAMED or (name == "name" and node["class_type"] == "PersonalizeSave"):
                node["inputs"][name] = f"{value}_{who.number}"
            else:
                node["inputs"][name] = spelled.sub(lambda match: words[match[1]], value)
    return found


def with_the_class_alone(graph: Graph, noun: str) -> Graph:
    """The graph with pictures of 'a {noun}', by the model of 'Your subject' and by the one that was loaded.

    Sampler, settings and noise are those of 'Your subject'.
    """
    found = copy.deepcopy(graph)
    loader, = nodes_of(found, "CheckpointLoaderSimple")
    for title, changes in ((CLASS_TITLE, ({}, {})), (UNTRAINED_TITLE, ({"clip": [loader, 1]}, {"model": [loader, 0]}))):
        found |= _class_alone(found, noun, title, *changes)
    return found


def _class_alone(graph: Graph, noun: str, title: str, text_changes: Graph, sampler_changes: Graph) -> Graph:
    """Copies of the nodes that draw 'Your subject', which draw 'a {noun}' in its place."""
    save, = (key for key in nodes_of(graph, "SaveImage") if graph[key]["_meta"]["title"] == "Your subject")
    decode = graph[save]["inputs"]["images"][0]
    sampler = graph[decode]["inputs"]["samples"][0]
    text = _upstream(graph, sampler, "positive")
    number = max(map(int, graph))
    ids = [str(number + k) for k in range(1, 5)]
    copies = [copy.deepcopy(graph[key]) for key in (text, sampler, decode, save)]
    copies[0]["inputs"] |= {"text": f"a {noun}", **text_changes}
    copies[1]["inputs"] |= {"positive": [ids[0], 0], **sampler_changes}
    copies[2]["inputs"]["samples"] = [ids[1], 0]
    copies[3]["inputs"] |= {"images": [ids[2], 0], "filename_prefix": "class_alone"}
    copies[3]["_meta"] = {"title": title}
    return dict(zip(ids, copies, strict=True))


def with_plain_sampling(graph: Graph) -> Graph:
    """The graph with every DCI sampler's pictures once more, from the same noise by the MODEL before **DCI Model**."""
    found = copy.deepcopy(graph)
    for save in nodes_of(graph, "SaveImage"):
        decode = graph[save]["inputs"]["images"][0]
        sampler = graph[decode]["inputs"]["samples"][0]
        patched = graph[_upstream(graph, sampler, "model")]
        number = max(map(int, found))
        ids = [str(number + k) for k in range(1, 4)]
        copies = [copy.deepcopy(graph[key]) for key in (sampler, decode, save)]
        copies[0]["inputs"]["model"] = patched["inputs"]["model"]
        copies[1]["inputs"]["samples"] = [ids[0], 0]
        copies[2]["inputs"]["images"] = [ids[1], 0]
        copies[2]["_meta"] = {"title": f"{graph[save]['_meta']['title']}, plain"}
        found |= dict(zip(ids, copies, strict=True))
    return found


def without_labels(graph: Graph) -> Graph:
    """The graph with pictures as they are drawn: a word on a picture is no part of it to a judge."""
    bare = {key: graph[key]["inputs"]["images"] for key in nodes_of(graph, "TextOverlay")}
    found = copy.deepcopy({key: node for key, node in graph.items() if key not in bare})
    for node in found.values():
        node["inputs"] |= {name: bare[value[0]] for name, value in node["inputs"].items()
                           if isinstance(value, list) and value[0] in bare}
    return found


def _upstream(graph: Graph, node: str, name: str) -> str:
    return str(graph[node]["inputs"][name][0])


def with_pictures(graph: Graph, wanted: int) -> Graph:
    """The graph with so many pictures a sampler."""
    found = copy.deepcopy(graph)
    for key in nodes_of(found, "EmptyLatentImage"):
        found[key]["inputs"]["batch_size"] = wanted
    return found


def quickly(graph: Graph) -> Graph:
    """The graph with hardly any steps, for tests."""
    found = copy.deepcopy(graph)
    for node in found.values():
        for name, value in QUICK.get(node["class_type"], {}).items():
            if name in node["inputs"] and not isinstance(node["inputs"][name], list):
                node["inputs"][name] = value
    return found
