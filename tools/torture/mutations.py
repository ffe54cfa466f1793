"""Prompts that nobody would write: the gallery's workflows and single nodes of ours, changed by a seeded hand."""

from __future__ import annotations

import copy
import math
import random
import string
from collections.abc import Mapping, Sequence
from typing import Any

from ..graphs import Slot, default_value, slots
from .servers import Graph, pruned

NUMBERS: Sequence[Any] = (0, 1, -1, 2, 3, 7, 0.5, -0.0, 1e-12, 1e308, 2**31, 2**32 + 1, 2**63, 2**64, -2**63, 10**400,
                          math.nan, math.inf, -math.inf, True, False, "7", "0x10", "1e3", "nan", "inf", "x", "", " ")
TEXTS: Sequence[Any] = (
    "", " ", "\n", "\t", "\x00", "a\x00b", "\ud800", "sks\udfff", "\u202e", "\ufeff", "\u200b", "sks\u200b",
    "🐕" * 50, "a" * 100_000, "a " * 20_000, ", " * 5_000, "../../escaped", "../" * 50 + "etc/passwd", "/etc/passwd",
    "C:\\x\\y", "\\\\server\\share", "con", "NUL.txt", ".", "..", ".hidden", "x.", "a/b", "~", "$HOME", "%n%s", "{V}",
    "{noun}", "{V} {noun}", "{V}" * 2_000, "{", "}", "{0}", "{V!r}", "{V.__class__}", "{}", "<script>alert(1)</script>",
    "<cat-toy>", "embedding:x", "embedding:", "embedding:../../x", "(((((", ")" * 500, "(" * 3_000, "(a:1e400)",
    "(a:nan)", "((dog:1.2))", "a{99999999999999999999}", r"(\w+\.?)+!", r"(\w+\.?)+!=4", "(a+)+$", "[", "*",
    "(.*)*(.*)*(.*)*x=4", "(?P<a>x", "(?R)", "\\", ".*=" + "9" * 5_000, "middle=8, output=", "middle=-1", "middle=1e9",
    "=", "=8", ",,,", "[" * 100_000, '{"a":' * 5_000, "null", "None", "sks" * 30, "Dog", "DOG", "dog\ndog", "dog,cat",
    "a dog", "no", "1.0", "true", "/dev/zero", "/dev/stdin", "/proc/self/environ", "a" * 300, "é" * 60, "Ⅷ", "ﬁ", "İ",
    "ß", "ſks", "and", "the", "a", "  sks  ", "sks sks", "zkz", "ohwx")
OTHERS: Sequence[Any] = (None, [], {}, [1], [[]], {"a": 1}, {"__value__": [1, 2]}, {"__value__": None}, ["1"],
                         ["1", 0, 0])
NAMES = ("self", "cls", "__class__", "images.image99", "images.", "images", ".", "", "a.b.c", "model", "kwargs",
         "\ud800", "unique_id", "x" * 5_000)
NOTHING: Mapping[str, Any] = {"input": {}}
"""What is known of a class that is none."""
LARGEST: Mapping[str, float] = {
    "steps": 4, "resolution": 64, "size": 64, "count": 3, "batch": 4, "seeds": 2, "fit_steps": 3, "preview_steps": 2,
    "class_pictures": 2, "pictures": 2, "candidates": 4, "sampling_steps": 2, "width": 128, "height": 128,
    "batch_size": 2, "accumulation": 4, "preview_photos": 2, "views": 4, "repeats": 16, "shown": 16, "rank": 64,
    "vectors": 64}
"""Inputs that mean work: values that are allowed are made no larger than this, so that thousands of prompts can run."""


class Mutator:
    """Makes the n-th prompt of a seed.

    Args:
        bases: workflows to change.
        info: the server's `/object_info`.
        ours: names of the node classes under torture.
    """

    def __init__(self, bases: Sequence[Graph], info: Mapping[str, Any], ours: Sequence[str]):
        self.bases, self.info, self.ours = bases, info, sorted(ours)

    def prompt(self, number: int) -> tuple[Graph, str]:
        """A graph, and what was done to it."""
        chance = random.Random(f"prompt {number}")
        graph = copy.deepcopy(chance.choice(self.bases))
        inside = [key for key, node in graph.items() if node["class_type"] in self.ours]
        if not inside or chance.random() < 0.3:
            inside = [self._graft(graph, chance)]
        target = chance.choice(inside)
        said = [self._mutate(graph, target, chance) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
        return self._ended(graph, target, chance), f"{graph[target].get('class_type')}: {'; '.join(said)}"

    def _graft(self, graph: Graph, chance: random.Random) -> str:
        """Add a node of ours with default widgets, linked to what the graph has of its types, and to the trainer."""
        kind = chance.choice(self.ours)
        inputs: dict[str, Any] = {}
        for slot in slots(self.info[kind]):
            if slot.is_widget:
                inputs[slot.name] = default_value(slot)
            elif slot.type == "COMFY_AUTOGROW_V3":
                name, wanted = ("image", "IMAGE") if "image" in slot.name else (slot.name.rstrip("s"), "MASK")
                inputs.update({f"{slot.name}.{name}0": link for link in self._links(graph, wanted, chance)})
            else:
                for link in self._links(graph, slot.type, chance):
                    inputs[slot.name] = link
        graph["900"] = {"class_type": kind, "inputs": inputs}
        _tame(graph["900"], self.info)
        for key, node in list(graph.items()):
            for slot in slots(self.info.get(str(node["class_type"]), NOTHING)):
                if key != "900" and slot.type in self.info[kind]["output"] and not slot.is_widget:
                    node["inputs"][slot.name] = ["900", self.info[kind]["output"].index(slot.type)]
                    return "900"
        return "900"

    def _links(self, graph: Graph, wanted: str, chance: random.Random) -> list[list[Any]]:
        """At most one link to an output of a type."""
        found = [[key, number] for key, node in graph.items()
                 for number, kind in enumerate(self._outputs(node)) if kind == wanted]
        return [chance.choice(found)] if found else []

    def _outputs(self, node: Mapping[str, Any]) -> Sequence[str]:
        """The types of a node's outputs."""
        return self.info.get(str(node["class_type"]), {}).get("output", ())

    def _mutate(self, graph: Graph, target: str, chance: random.Random) -> str:
        """Change one thing about a node; says what."""
        node = graph[target]
        inputs = node["inputs"]
        slot = chance.choice([*slots(self.info.get(str(node["class_type"]), NOTHING))] or [Slot("x", "STRING", {})])
        ways = {"value": 12, "remove": 2, "link": 3, "extra": 1, "rename": 1, "swap": 1, "shape": 0.5}
        way = chance.choices([*ways], [*ways.values()])[0]
        if way == "value":
            inputs[slot.name] = value = _value(slot, chance)
            _tame(node, self.info)
            return f"{slot.name} = {_short(value)}"
        if way == "remove" and inputs:
            name = chance.choice([*inputs])
            del inputs[name]
            return f"without {name}"
        if way == "link":
            name = chance.choice([*inputs] or [slot.name])
            inputs[name] = link = self._bad_link(graph, target, chance)
            return f"{name} -> {link}"
        if way == "rename" and inputs:
            name, other = chance.choice([*inputs]), chance.choice(NAMES)
            inputs[other] = inputs.pop(name)
            return f"{name} is called {other[:20]!r}"
        if way == "swap" and len(inputs) > 1:
            one, two = chance.sample([*inputs], 2)
            inputs[one], inputs[two] = inputs[two], inputs[one]
            _tame(node, self.info)
            return f"{one} and {two} swapped"
        if way == "shape":
            part, value = chance.choice(("class_type", "_meta")), chance.choice((*OTHERS[:6], "Nothing", 7))
            node[part] = value
            return f"the node itself has {_short(value)}"
        name = chance.choice(NAMES)
        inputs[name] = value = chance.choice((*TEXTS, *OTHERS))
        return f"extra {name[:20]!r} = {_short(value)}"

    def _bad_link(self, graph: Graph, target: str, chance: random.Random) -> list[Any]:
        other = chance.choice([*graph])
        return chance.choice(([other, 0], [other, 1], [other, 99], [other, -1], [other, "0"], [target, 0], ["no", 0],
                              [other, 0.5], [None, 0], [other, None], [int(other), 0]))

    def _ended(self, graph: Graph, target: str, chance: random.Random) -> Graph:
        """The node with what it needs, mostly; sometimes everything that hangs on it."""
        if chance.random() < 0.15:
            kinds = {key: node["class_type"] for key, node in graph.items() if isinstance(node["class_type"], str)}
            ends = [key for key, kind in kinds.items() if self.info.get(kind, {}).get("output_node")]
            return pruned(graph, target, chance.choice(ends or [target]))
        graph["901"] = {"class_type": "PreviewAny", "inputs": {"source": [target, 0]}}
        return pruned(graph, "901", target)


def _value(slot: Slot, chance: random.Random) -> Any:
    """A value for a slot: mostly of its type and wrong, sometimes right, sometimes of another type."""
    if chance.random() < 0.15:
        return chance.choice(OTHERS)
    if slot.type in ("INT", "FLOAT") or slot.type == "BOOLEAN":
        edges = [value for key in ("min", "max", "default") if isinstance(value := slot.options.get(key), int | float)]
        edges += [edges[0] - 1, edges[-1] + 1] if edges else []
        return chance.choice((*NUMBERS, *edges, *edges, *edges))
    if slot.type == "COMBO":
        options = [*(slot.options.get("options") or [""])]
        return chance.choice((*options, *options, chance.choice(TEXTS), "no such choice", 0, str(options[0]).upper()))
    if chance.random() < 0.15:
        return "".join(chance.choices(string.printable, k=chance.randint(1, 60)))
    if chance.random() < 0.1:
        return chance.choice(NUMBERS)
    return chance.choice(TEXTS)


def _tame(node: dict[str, Any], info: Mapping[str, Any]) -> None:
    """No more work than a second's where a value is allowed; what is refused stays as it is."""
    known = {slot.name: slot for slot in slots(info.get(str(node["class_type"]), NOTHING))}
    for name, value in node["inputs"].items():
        largest, slot = LARGEST.get(name), known.get(name)
        if largest is None or slot is None or isinstance(value, bool | list | dict) or value is None:
            continue
        try:
            number = float(value)
        except (ValueError, OverflowError):
            continue
        if number > largest and number <= slot.options.get("max", math.inf):
            node["inputs"][name] = int(largest)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) < 50 else f"{text[:40]}... ({len(text)} characters)"
