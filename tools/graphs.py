"""A ComfyUI graph, described once, in the two forms that ComfyUI reads: the API's and the editor's.

The editor's form needs each class's inputs and outputs in order: a running server's ``/object_info``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .layout import frame, place

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
"""A combo whose choices may bring inputs of their own; those that bring any cannot be chosen here."""
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", DYNAMIC_COMBO}
AUTOGROW = "COMFY_AUTOGROW_V3"
NOTE = "MarkdownNote"
NODE_WIDTH, NOTE_COLOUR = 290, "#432"
HEADER, ROW, WIDGET_ROW, MULTILINE = 14, 20, 24, 54
ELEMENT_ROW, ELEMENT_MULTILINE = 28, 70
"""Heights of parts of a node on the classic canvas, and where nodes are elements of the page (Nodes 2.0)."""
TALLER = {"PersonalizeLoad": 240, "PersonalizeDCIEncode": 278, "PersonalizeLearnedContexts": 322, "VAELoader": 86}
"""Nodes that show more in Nodes 2.0 than their widgets."""
NOTE_LINE, NOTE_LETTERS, NOTES = 16, 52, -1
"""Of a note: height of a line and letters in it, at the least; and the column where notes are read first."""


class Link(NamedTuple):
    """An output of a node."""

    node: Node
    output: int


@dataclass(eq=False)
class Node:
    """One node: its class, its inputs (values or links), and the group in which it stands."""

    id: int
    class_type: str
    inputs: dict[str, Any]
    title: str
    column: int
    size: tuple[int, int] | None
    files: tuple[Mapping[str, str], ...] = ()

    def __getitem__(self, output: int) -> Link:
        return Link(self, output)


class App(NamedTuple):
    """What the editor's app mode shows of a graph: some widgets, and what some nodes put out."""

    widgets: tuple[tuple[Node, str], ...]
    outputs: tuple[Node, ...]


@dataclass
class Graph:
    """A workflow under construction.

    Attributes:
        groups: title by number; they stand from left to right, a group without a title has no frame.
        app: where it opens in app mode.
    """

    name: str
    nodes: list[Node] = field(default_factory=list)
    groups: dict[int, str] = field(default_factory=dict)
    app: App | None = None

    def add(self, column: int, class_type: str, inputs: Mapping[str, Any], *, title: str = "",
            size: tuple[int, int] | None = None, files: tuple[Mapping[str, str], ...] = (),
            before: Node | None = None) -> Node:
        """Put a node behind the others of a group and return it; ``node[0]`` is its first output.

        Args:
            files: model files that its widgets name, as the editor offers them where they are missing: name, directory,
                url.
            before: a node of the group in front of which it stands.
        """
        node = Node(len(self.nodes) + 1, class_type, dict(inputs), title, column, size, files)
        self.nodes.insert(self.nodes.index(before) if before else len(self.nodes), node)
        return node

    def note(self, column: int, text: str, *, title: str, height: int = 0, before: Node | None = None) -> None:
        """Put a note into a group, as high as its text; it is in the editor's form only."""
        self.add(column, NOTE, {"": text}, title=title, size=(NODE_WIDTH, height or note_height(text)),
                 before=before)


def note_height(text: str) -> int:
    """A height in which all of a note can be read."""
    lines = sum(-(-len(line) // NOTE_LETTERS) if line else 0.5 for line in text.splitlines())
    return int(NOTE_LINE * lines) + 50


def api_form(graph: Graph, object_info: Mapping[str, Any]) -> dict[str, Any]:
    """What POST /prompt takes: inputs by name, links as [node id, output]; defaults are written out.

    Raises:
        KeyError: a node has an input that its class does not know, or lacks a required socket.
    """
    form: dict[str, Any] = {}
    for node in graph.nodes:
        if node.class_type == NOTE:
            continue
        info = object_info[node.class_type]
        check_inputs(node, info)
        defaults = {slot.name: default_value(slot) for slot in slots(info) if slot.is_widget}
        inputs = {name: [str(value.node.id), value.output] if isinstance(value, Link) else value
                  for name, value in {**defaults, **node.inputs}.items()}
        form[str(node.id)] = {"class_type": node.class_type, "inputs": inputs,
                              "_meta": {"title": node.title or info["display_name"] or node.class_type}}
    return form


class Slot(NamedTuple):
    """An input of a node class as the editor orders it."""

    name: str
    type: str
    options: Mapping[str, Any]

    @property
    def is_widget(self) -> bool:
        """Whether the editor shows a widget for it."""
        return self.type in WIDGET_TYPES and not self.options.get("forceInput")


def slots(info: Mapping[str, Any]) -> Iterator[Slot]:
    """The inputs of a class, required ones first, as the editor orders them."""
    for kind in ("required", "optional"):
        for name, spec in info["input"].get(kind, {}).items():
            options = dict(spec[1]) if len(spec) > 1 else {}
            if isinstance(spec[0], list):  # older classes give a combo's choices in the type's place
                yield Slot(name, "COMBO", {"options": spec[0], **options})
            else:
                yield Slot(name, spec[0], options)


def default_value(slot: Slot) -> Any:
    """What a widget shows at first: its default, or the first of its choices."""
    if slot.type == DYNAMIC_COMBO:
        return slot.options["options"][0]["key"]
    choices = slot.options.get("options") or [""]
    return slot.options.get("default", choices[0] if slot.type == "COMBO" else "")


def widget_values(node: Node, info: Mapping[str, Any]) -> list[Any]:
    """The values of a node's widgets in order, with what the editor puts behind seeds and picture names."""
    values: list[Any] = []
    for slot in slots(info):
        if not slot.is_widget:
            continue
        value = node.inputs.get(slot.name, default_value(slot))
        values.append(default_value(slot) if isinstance(value, Link) else value)
        if slot.options.get("control_after_generate"):
            values.append("fixed")
        if slot.options.get("image_upload"):
            values.append("image")
    return values


def sockets(node: Node, info: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A node's input sockets: those without a widget, those of a growing list, and linked widgets."""
    for slot in slots(info):
        if slot.type == AUTOGROW:
            for name in (name for name in node.inputs if name.startswith(slot.name + ".")):
                yield {"name": name, "label": name.partition(".")[2], "type": "*", "link": None}
        elif not slot.is_widget:
            yield {"name": slot.name, "type": slot.type, "link": None}
        elif isinstance(node.inputs.get(slot.name), Link):
            yield {"name": slot.name, "type": slot.type, "widget": {"name": slot.name}, "link": None}


def guessed_size(node: Node, info: Mapping[str, Any], socket_count: int) -> list[int]:
    """A size in which everything is readable."""
    widgets = [slot for slot in slots(info) if slot.is_widget]
    shown = [slot for slot in widgets if not slot.options.get("advanced")]  # the classic canvas shows all of them
    after_seeds = sum(bool(slot.options.get("control_after_generate")) for slot in widgets)
    classic = WIDGET_ROW * after_seeds + sum(  # which are a sign behind the seed in Nodes 2.0
        MULTILINE if slot.options.get("multiline") else WIDGET_ROW for slot in widgets)
    # Nodes 2.0 has a row to show the others, and one with the name of the extension that a node comes from.
    extra = (len(shown) < len(widgets)) + info["python_module"].startswith("custom_nodes.")
    elements = ELEMENT_ROW * extra + sum(
        ELEMENT_MULTILINE if slot.options.get("multiline") else ELEMENT_ROW for slot in shown)
    growing = sum(slot.type == AUTOGROW for slot in slots(info))  # each offers one socket more
    rows = max(socket_count + growing, len(info["output"]))
    return [NODE_WIDTH, max(HEADER + ROW * rows + max(classic, elements), TALLER.get(node.class_type, 0))]


def ui_node(node: Node, info: Mapping[str, Any], order: int) -> dict[str, Any]:
    """One node in the editor's form, its links still open."""
    inputs = list(sockets(node, info))
    outputs = [{"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "links": []}
               for name, kind in zip(info["output_name"], info["output"], strict=True)]
    properties: dict[str, Any] = {"Node name for S&R": node.class_type}
    if node.files:
        properties["models"] = list(node.files)
    form = {"id": node.id, "type": node.class_type, "pos": [0, 0],
            "size": list(node.size) if node.size else guessed_size(node, info, len(inputs)),
            "flags": {}, "order": order, "mode": 0, "inputs": inputs, "outputs": outputs,
            "properties": properties, "widgets_values": widget_values(node, info)}
    return {**form, "title": node.title} if node.title else form


def ui_note(node: Node, order: int) -> dict[str, Any]:
    """A note in the editor's form."""
    return {"id": node.id, "type": node.class_type, "title": node.title, "pos": [0, 0],
            "size": list(node.size or (NODE_WIDTH, 200)), "flags": {}, "order": order, "mode": 0, "inputs": [],
            "outputs": [], "properties": {}, "widgets_values": [node.inputs[""]], "color": NOTE_COLOUR,
            "bgcolor": "#653"}


def ui_links(graph: Graph, forms: Mapping[int, dict[str, Any]]) -> list[list[Any]]:
    """Connect the nodes of the editor's form and return its list of links."""
    links: list[list[Any]] = []
    for node in graph.nodes:
        for index, socket in enumerate(forms[node.id]["inputs"]):
            source = node.inputs.get(socket["name"])
            if not isinstance(source, Link):
                continue
            output = forms[source.node.id]["outputs"][source.output]
            number = len(links) + 1
            kind = output["type"] if socket["type"] == "*" else socket["type"]
            socket.update(link=number, type=kind)
            output["links"].append(number)
            links.append([number, source.node.id, source.output, node.id, index, kind])
    return links


def ui_form(graph: Graph, object_info: Mapping[str, Any]) -> dict[str, Any]:
    """What the editor loads and saves (schema 0.4).

    Raises:
        KeyError: a node class or a required input that the server does not know, or that is missing here.
    """
    forms: dict[int, dict[str, Any]] = {}
    for order, node in enumerate(graph.nodes):
        if node.class_type == NOTE:
            forms[node.id] = ui_note(node, order)
            continue
        info = object_info[node.class_type]
        check_inputs(node, info)
        forms[node.id] = ui_node(node, info, order)
    links = ui_links(graph, forms)
    size = place([members(graph, forms, column) for column in sorted({node.column for node in graph.nodes})])
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, graph.name)), "revision": 0,
            "last_node_id": len(graph.nodes), "last_link_id": len(links), "nodes": list(forms.values()),
            "links": links, "groups": ui_groups(graph, forms), "config": {},
            "extra": {"ds": size.view, **ui_app(graph)}, "version": 0.4}


def ui_groups(graph: Graph, forms: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """A frame with a title around the nodes of each group that has one."""
    return [{"id": number, "title": title, "bounding": frame(members(graph, forms, column)), "color": "#8fb8d8",
             "font_size": 24, "flags": {}} for number, (column, title) in enumerate(graph.groups.items(), start=1)]


def members(graph: Graph, forms: Mapping[int, dict[str, Any]], column: int) -> list[dict[str, Any]]:
    """The nodes of a group."""
    return [forms[node.id] for node in graph.nodes if node.column == column]


def ui_app(graph: Graph) -> dict[str, Any]:
    """What the editor keeps of app mode."""
    if graph.app is None:
        return {}
    return {"linearMode": True, "linearData": {"inputs": [[node.id, name] for node, name in graph.app.widgets],
                                               "outputs": [node.id for node in graph.app.outputs]}}


def check_inputs(node: Node, info: Mapping[str, Any]) -> None:
    """Raises: KeyError, where a node has an input that its class does not know, or lacks a required socket."""
    known = {slot.name for slot in slots(info)}
    widgets = {slot.name for slot in slots(info) if slot.is_widget}
    unknown = {name for name in node.inputs if name.partition(".")[0] not in known}
    given = {name.partition(".")[0] for name in node.inputs}
    missing = set(info["input"].get("required", {})) - given - widgets
    if unknown or missing:
        raise KeyError(f"{node.class_type}: unknown inputs {sorted(unknown)}, missing inputs "
                       f"{sorted(missing)}; the class has {sorted(known)}")
