"""The user's workflow in API form, with another subject in it. Nothing else of the workflow is changed.

Nodes are known by their titles, as the editor shows them.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import PlanError
from .plan import Overrides, Value

Graph = dict[str, dict[str, Any]]

PHOTOS_NODE, FOLDER_NODE = "PersonalizeSubjectPhotos", "PersonalizePhotosFromFolder"
FROM_PHOTOS, SAVER, PICKER = "PersonalizeFromPhotos", "PersonalizeSave", "IdentifierPicker"
EVALUATE = "PersonalizeEvaluate"
TRAINERS = {"PersonalizeTrainer": 5, FROM_PHOTOS: 2}
"""Nodes that train, and which of their outputs is PERSONALIZATION."""
SUBJECT_INPUTS = ("identifier", "class_noun", "caption_template", "data", "subject")
"""What Photos from Folder takes as Subject Photos has it."""
TEXTS = ("text", "string", "prompt", "prompts", "templates")
"""Inputs that hold what is drawn."""
CHECKPOINT_INPUTS = ("ckpt_name", "unet_name", "clip_name", "clip_name1", "clip_name2", "clip_name3", "vae_name")


class Place(NamedTuple):
    """An input of a node."""

    node: str
    key: str


def read_workflow(path: Path) -> Graph:
    """A workflow in API form. Raises: PlanError."""
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError([f"workflow: {path} cannot be read ({error.strerror or error})"]) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PlanError([f"workflow: {path} is no JSON: {error}"]) from None
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        raise PlanError([f"workflow: {path.name} is in the editor's form, expected the API form: "
                         "in ComfyUI, File > Export (API)"])
    if not isinstance(graph, dict) or not graph or not all(_is_node(node) for node in graph.values()):
        raise PlanError([f"workflow: {path.name} is no workflow in API form, expected nodes with class_type and "
                         "inputs"])
    return graph


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def title_of(graph: Graph, node: str) -> str:
    """What a node is called in the editor."""
    return str((graph[node].get("_meta") or {}).get("title") or graph[node]["class_type"])


def titles(graph: Graph) -> list[str]:
    """All titles, sorted."""
    return sorted({title_of(graph, node) for node in graph})


def nodes_titled(graph: Graph, title: str) -> list[str]:
    """The nodes of a title."""
    return [node for node in graph if title_of(graph, node) == title]


def nodes_of(graph: Graph, *kinds: str) -> list[str]:
    """The nodes of some classes."""
    return [node for node, it in graph.items() if it["class_type"] in kinds]


def is_link(value: Any) -> bool:
    """Whether an input comes from another node: [node, output]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def subject_node(graph: Graph) -> str:
    """The one node whose photos are replaced. Raises: PlanError."""
    found = nodes_of(graph, PHOTOS_NODE, FOLDER_NODE, FROM_PHOTOS)
    if len(found) != 1:
        raise PlanError([f"workflow: got {len(found)} nodes with photos of a subject, expected one Subject Photos, "
                         "Photos from Folder or Personalize from Photos"])
    return found[0]


def problems_of_overrides(graph: Graph, overrides: Overrides, where: str) -> list[str]:
    """What of the overrides fits no node, in sentences."""
    problems = []
    for title, inputs in overrides.items():
        found = nodes_titled(graph, title)
        if not found:
            problems.append(f"{where}: overrides: got the title {title!r}, expected one of {', '.join(titles(graph))}")
        problems += [f"{where}: overrides: {title}: got the input {key!r}, expected one of "
                     f"{', '.join(sorted(_widgets(graph, found)))}"
                     for key in inputs if found and key not in _widgets(graph, found)]
    return problems


def _widgets(graph: Graph, nodes: Iterable[str]) -> set[str]:
    return {key for node in nodes for key, value in graph[node]["inputs"].items() if not is_link(value)}


def overridden(graph: Graph, overrides: Overrides) -> Graph:
    """The graph with values put in by title and input."""
    graph = copy.deepcopy(graph)
    for title, inputs in overrides.items():
        for node in nodes_titled(graph, title):
            graph[node]["inputs"].update(inputs)
    return graph


def prompt_place(graph: Graph, title: str | None) -> Place:
    """The text that is drawn: of the node that the plan names, or the only one that leads to a sampler's `positive`.

    Raises:
        PlanError: there is none, or there are several.
    """
    places = list(dict.fromkeys(_texts_before_samplers(graph)))
    if title is not None:
        places = [Place(node, key) for node in nodes_titled(graph, title) for key in TEXTS
                  if isinstance(graph[node]["inputs"].get(key), str)]
    if len(places) != 1:
        named = ", ".join(sorted(title_of(graph, place.node) for place in places)) or "none"
        raise PlanError([f"prompt: got {title!r}, which leaves {len(places)} texts ({named}), expected the title of "
                         "the one node whose text is the prompt"])
    return places[0]


def _texts_before_samplers(graph: Graph) -> Iterator[Place]:
    for node in graph.values():
        link = node["inputs"].get("positive")
        if is_link(link):
            yield from _texts_behind(graph, link[0], set())


def _texts_behind(graph: Graph, node: str, seen: set[str]) -> Iterator[Place]:
    """Typed texts on the way up from a node; models, latents and photos on the way have none."""
    if node in seen or node not in graph:
        return
    seen.add(node)
    for key, value in graph[node]["inputs"].items():
        if key in TEXTS and isinstance(value, str):
            yield Place(node, key)
        elif is_link(value) and key in (*TEXTS, "conditioning", "positive", "conditioning_1", "conditioning_2"):
            yield from _texts_behind(graph, value[0], seen)


def with_prompt(graph: Graph, place: Place, prompt: str) -> Graph:
    """The graph with another prompt."""
    graph = copy.deepcopy(graph)
    graph[place.node]["inputs"][place.key] = prompt
    return graph


def with_subject(graph: Graph, folder: str, class_noun: str | None, identifier: str | None) -> Graph:
    """The graph with the photos of a folder below ComfyUI's input folder.

    The class noun takes the place of the workflow's wherever that stands: in nodes and, as a word, in the texts that
    are drawn. An identifier takes the place of the workflow's, and of what Identifier Picker would choose.

    Raises:
        PlanError: an identifier for Personalize from Photos, which picks its own.
    """
    graph = copy.deepcopy(graph)
    node = graph[subject_node(graph)]
    old_noun, old_identifier = node["inputs"].get("class_noun"), node["inputs"].get("identifier")
    if node["class_type"] == FROM_PHOTOS:
        old_noun = node["inputs"].get("what_is_it")
        _give_photos(node["inputs"], folder, class_noun, identifier)
    else:
        kept = {key: node["inputs"][key] for key in SUBJECT_INPUTS if key in node["inputs"]}
        node["class_type"], node["inputs"] = FOLDER_NODE, {**kept, "folder": folder}
    for inputs in (other["inputs"] for other in graph.values()):
        if class_noun is not None and isinstance(old_noun, str):
            _replace_noun(inputs, old_noun, class_noun)
        if identifier is not None:
            _replace_identifier(graph, inputs, old_identifier, identifier)
    return graph


def _give_photos(inputs: dict[str, Any], folder: str, class_noun: str | None, identifier: str | None) -> None:
    """Personalize from Photos with the photos of a folder."""
    if identifier is not None:
        raise PlanError([f"identifier: got {identifier!r}, expected none: Personalize from Photos picks its own. Leave "
                         "it out, or use a workflow with Subject Photos"])
    inputs.pop("images", None)
    inputs["photos"] = folder
    if class_noun is not None:
        inputs["what_is_it"] = class_noun


def _replace_noun(inputs: dict[str, Any], old: str, new: str) -> None:
    if inputs.get("class_noun") == old:
        inputs["class_noun"] = new
    for key in TEXTS:
        if isinstance(inputs.get(key), str):
            inputs[key] = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", lambda _: new, inputs[key])


def _replace_identifier(graph: Graph, inputs: dict[str, Any], old: Any, new: str) -> None:
    for key, value in inputs.items():
        picked = is_link(value) and value[1] == 0 and graph.get(value[0], {}).get("class_type") == PICKER
        if picked or (key == "identifier" and value == old and isinstance(old, str)):
            inputs[key] = new


def with_names(graph: Graph, name: str) -> Graph:
    """The graph with all that it writes called after the job; Save Personalization is added where it is missing."""
    graph = copy.deepcopy(graph)
    if not nodes_of(graph, SAVER):
        for number, trainer in enumerate(nodes_of(graph, *TRAINERS), 1):
            inputs = {"name": "", "personalization": [trainer, TRAINERS[graph[trainer]["class_type"]]]}
            graph[f"fleet-save-{number}"] = {"class_type": SAVER, "inputs": inputs,
                                             "_meta": {"title": "Save Personalization"}}
    savers = nodes_of(graph, SAVER)
    for number, saver in enumerate(savers, 1):
        graph[saver]["inputs"]["name"] = f"fleet/{name}" + (f"-{number}" if len(savers) > 1 else "")
    for trainer in nodes_of(graph, *TRAINERS):
        graph[trainer]["inputs"]["run_name"] = name
    for node in graph.values():
        if isinstance(node["inputs"].get("filename_prefix"), str):
            node["inputs"]["filename_prefix"] = f"fleet/{name}/{node['inputs']['filename_prefix'].rsplit('/', 1)[-1]}"
    return graph


def model_files(graph: Graph) -> list[str]:
    """Names of the model files that the graph loads, as its loaders have them."""
    return sorted({node["inputs"][key] for node in graph.values() for key in CHECKPOINT_INPUTS
                   if isinstance(node["inputs"].get(key), str)})


def steps_of(graph: Mapping[str, Mapping[str, Any]]) -> int:
    """Training steps of the graph; 0 where they are not typed."""
    steps = [node["inputs"].get("steps") for node in graph.values() if node["class_type"] in TRAINERS]
    return sum(value for value in steps if isinstance(value, int))


def grid(sweep: Mapping[str, list[Value]], separator: str) -> Iterator[Overrides]:
    """Every combination of a sweep, as overrides; one empty combination where there is no sweep."""
    combinations: list[Overrides] = [{}]
    for column, values in sweep.items():
        title, _, key = column.partition(separator)
        combinations = [{**made, title: {**made.get(title, {}), key: value}}
                        for made in combinations for value in values]
    yield from combinations
