"""Subgraph blueprints: a part of a workflow as one node, which ComfyUI lists from `subgraphs/*.json`.

The form is the editor's: the part's nodes and links stand in `definitions`, with -10 for where links come in and -20
for where they go out; one node of that type stands in the graph.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .graphs import NOTE, Graph, Node, ui_form

INPUT, OUTPUT = -10, -20


def blueprint(graph: Graph, outside: Sequence[Node], widgets: Sequence[tuple[Node, str]], name: str, description: str,
              object_info: Mapping[str, Any]) -> dict[str, Any]:
    """All nodes of a graph but notes and those outside, as one node.

    Args:
        outside: the nodes before and behind; their links become sockets.
        widgets: those that the one node shows.
    """
    form = ui_form(graph, object_info)
    left = {node.id for node in outside} | {node.id for node in graph.nodes if node.class_type == NOTE}
    nodes = {each["id"]: each for each in form["nodes"]}
    inputs, outputs = _Sockets(name, "in"), _Sockets(name, "out")
    links = []
    for number, source, slot, target, place, kind in form["links"]:
        if source in left and target in left:
            continue
        if source in left:
            origin = (INPUT, inputs.of((source, slot), nodes[source]["outputs"][slot]["name"], kind, number))
        else:
            origin = (source, slot)
        if target in left:
            end = (OUTPUT, outputs.of((source, slot), nodes[source]["outputs"][slot]["name"], kind, number))
        else:
            end = (target, place)
        links.append({"id": number, "origin_id": origin[0], "origin_slot": origin[1], "target_id": end[0],
                      "target_slot": end[1], "type": kind})
    inside = [each for each in form["nodes"] if each["id"] not in left]
    kept = {link["id"] for link in links}
    for each in inside:
        for socket in each["outputs"]:
            socket["links"] = [number for number in socket["links"] if number in kept]
    own = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    last = {"lastGroupId": 0, "lastNodeId": form["last_node_id"], "lastLinkId": form["last_link_id"],
            "lastRerouteId": 0}
    definition = {
        "id": own, "version": 1, "state": last, "revision": 0, "config": {}, "name": name,
        "inputNode": {"id": INPUT, "bounding": [-200, 0, 120, 100]},
        "outputNode": {"id": OUTPUT, "bounding": [1500, 0, 120, 60]}, "inputs": inputs.found, "outputs": outputs.found,
        "widgets": [], "nodes": inside, "groups": [], "links": links, "extra": {}, "category": "personalize",
        "description": description}
    return {"revision": 0, "last_node_id": form["last_node_id"] + 1, "last_link_id": 0, "version": 0.4,
            "nodes": [_one_node(form["last_node_id"] + 1, own, name, definition, widgets)], "links": [],
            "definitions": {"subgraphs": [definition]},
            "extra": {"BlueprintDescription": description}}


def _one_node(number: int, own: str, name: str, definition: Mapping[str, Any],
              widgets: Sequence[tuple[Node, str]]) -> dict[str, Any]:
    sockets = [{"name": each["name"], "type": each["type"], "link": None} for each in definition["inputs"]]
    ends = [{"name": each["name"], "type": each["type"], "links": []} for each in definition["outputs"]]
    return {"id": number, "type": own, "pos": [0, 0], "size": [340, 420], "flags": {}, "order": 0, "mode": 0,
            "inputs": sockets, "outputs": ends, "title": name, "widgets_values": [],
            "properties": {"proxyWidgets": [[str(node.id), widget] for node, widget in widgets]}}


class _Sockets:
    """The sockets of one side, each for one output of a node."""

    def __init__(self, name: str, side: str):
        self.name, self.side = name, side
        self.found: list[dict[str, Any]] = []
        self._places: dict[tuple[int, int], int] = {}

    def of(self, source: tuple[int, int], label: str, kind: str, link: int) -> int:
        """The place of a source's socket, made where it is new."""
        if source not in self._places:
            self._places[source] = len(self.found)
            number = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name} {self.side} {len(self.found)}")
            self.found.append({"id": str(number), "name": label, "type": kind, "linkIds": []})
        place = self._places[source]
        self.found[place]["linkIds"].append(link)
        return place
