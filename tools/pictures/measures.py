"""What is measured on each workflow's pictures, and what was wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch
from PIL import Image

from ...pocket.accept import edges
from ...pocket.places import PHRASES
from ..workflow_graphs import dci_two_subjects
from ..workflow_graphs.dci_omega_sweep import OMEGAS
from .graphs import CLASS_TITLE, OVERFITTING, UNTRAINED_TITLE, Graph, nodes_of
from .judging import Panel, pixels, reference
from .subjects import Subject, second_noun

Pictures = Mapping[str, list[Image.Image]]
"""By the title of their Save Image node."""
Figures = dict[str, float]


def place_of(graph: Graph) -> str:
    """Where the workflow's prompt puts the subject."""
    prompts = [graph[key]["inputs"]["string"] for key in nodes_of(graph, "StringReplace")]
    return next(place for text in prompts for place, phrases in PHRASES.items()
                for phrase in phrases if phrase and phrase in text)


def of_one(graph: Graph, pictures: Pictures, who: Subject, panel: Panel) -> Figures:
    """Workflows with one subject: retrieval, and whether it is where the prompt says."""
    own, seen = reference(panel.judge, who.number), pixels(pictures["Your subject"])
    found = {"retrieval": panel.retrieved(seen, own), "retrieval in its class": panel.told_apart(seen, own, who.noun),
             "context obeyed": panel.obeyed(seen, place_of(graph))}
    for title, end in ((CLASS_TITLE, ""), (UNTRAINED_TITLE, ", untrained")):
        if title in pictures:
            classes = pixels(pictures[title])
            found[f"the class alone is the subject{end}"] = panel.retrieved(classes, own)
            found[f"the class alone is the subject, in its class{end}"] = panel.told_apart(classes, own, who.noun)
    return found


def of_pair(graph: Graph, pictures: Pictures, who: Subject, panel: Panel) -> Figures:
    """DCI beside plain sampling: probability of the place, and likeness."""
    own, place = reference(panel.judge, who.number), place_of(graph)
    plain, dci = (next(title for title in pictures if title.lower().endswith(word)) for word in ("plain", "with dci"))
    sides = {name: pixels(pictures[title]) for name, title in (("plain", plain), ("DCI", dci))}
    found = {f"alignment, {name}": panel.alignment(seen, place) for name, seen in sides.items()}
    found |= {f"fidelity, {name}": panel.fidelity(seen, own) for name, seen in sides.items()}
    found |= {f"retrieval, {name}": panel.retrieved(seen, own) for name, seen in sides.items()}
    for kind in ("alignment", "fidelity"):
        found[f"{kind}, DCI minus plain"] = found[f"{kind}, DCI"] - found[f"{kind}, plain"]
    return found | {"DCI is higher": float(found["alignment, DCI minus plain"] > 0)}


def of_sweep(graph: Graph, pictures: Pictures, who: Subject, panel: Panel) -> Figures:
    """The sheets' tiles: alignment and fidelity, plain and by omega."""
    own, place, found = reference(panel.judge, who.number), place_of(graph), Figures()
    sheets = [sheet for images in pictures.values() for sheet in images]
    for column, name in enumerate(("plain", *(f"omega {omega:g}" for omega in OMEGAS))):
        tiles = pixels([tile(sheet, column, 1 + len(OMEGAS)) for sheet in sheets])
        found[f"alignment, {name}"] = panel.alignment(tiles, place)
        found[f"fidelity, {name}"] = panel.fidelity(tiles, own)
    found["alignment, last minus plain"] = found[f"alignment, omega {OMEGAS[-1]:g}"] - found["alignment, plain"]
    return found


def tile(sheet: Image.Image, column: int, columns: int) -> Image.Image:
    """One of so many equal columns."""
    width = sheet.width / columns
    return sheet.crop((round(column * width), 0, round((column + 1) * width), sheet.height))


def of_two_objects(graph: Graph, pictures: Pictures, who: Subject, panel: Panel) -> Figures:
    """Each object by itself is retrieved; together both are there."""
    first, second = reference(panel.judge, who.number), reference(panel.judge, who.number + 1000, second_noun(who))
    halves = {name: panel.retrieved(pixels(pictures[title]), own) for name, title, own in
              (("retrieval, first", "The dog alone", first), ("retrieval, second", "The backpack alone", second))}
    both = [tile(picture, column, 2) for picture in pictures["Both"] for column in (0, 1)]
    found = halves | {"retrieval": sum(halves.values()) / 2}
    found["retrieval in its class"] = panel.told_apart(pixels(pictures["The dog alone"]), first, who.noun)
    return found | {"both: left is the first": panel.retrieved(pixels(both[::2]), first),
                    "both: right is the second": panel.retrieved(pixels(both[1::2]), second)}


def of_dci_pair_of_subjects(graph: Graph, pictures: Pictures, who: Subject, panel: Panel) -> Figures:
    """Both class nouns are in the picture, with DCI and without."""
    nouns = (dci_two_subjects.FIRST[1], dci_two_subjects.SECOND[1])
    found = Figures()
    for end in ("", ", plain"):
        halves = [tile(picture, column, 2) for picture in pictures[f"Two halves{end}"] for column in (0, 1)]
        left, right = pixels(halves[::2]), pixels(halves[1::2])
        found |= {f"both nouns, one prompt{end}": panel.holds(pixels(pictures[f"One prompt{end}"]), nouns),
                  f"halves: left noun{end}": panel.holds(left, nouns[:1]),
                  f"halves: right noun{end}": panel.holds(right, nouns[1:])}
    name = "both nouns, one prompt"
    return found | {f"{name}, DCI minus plain": found[name] - found[f"{name}, plain"]}


def of_enlarging(graph: Graph, pictures: Pictures, who: Subject, panel: Panel) -> Figures:
    """Edges of the enlarged picture against those of the small one enlarged by Lanczos."""
    large = pictures["Four times as large"]
    plain = [picture.resize(large[0].size, Image.Resampling.LANCZOS) for picture in pictures["Personalized picture"]]
    sharp = [edges(torch.stack([full(picture) for picture in images])) for images in (large, plain)]
    return {"edges against Lanczos": sharp[0] / max(sharp[1], 1e-9)}


def full(picture: Image.Image) -> torch.Tensor:
    """(3, H, W) in [0, 1], at the picture's own size."""
    data = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return data.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255


Measure = Callable[[Graph, Pictures, Subject, Panel], Figures]
MEASURES: Final[dict[str, Measure]] = {
    "01": of_one, "02": of_one, "03": of_pair, "05": of_one, "06": of_one, "07": of_one, "08": of_one, "09": of_one,
    "10": of_two_objects, "11": of_enlarging, "12": of_sweep, "13": of_dci_pair_of_subjects, "14": of_pair,
}
"""By the workflow's number, in the order in which they run."""
LOADED: Final = {"11": "01", "14": "01", "03": OVERFITTING, "12": OVERFITTING}
"""Workflows that load what another one saved, which is run first."""
WITHOUT_SUBJECT: Final = ("13",)
"""Workflows about individuals that the model knows by name: run once."""


class Wanted(NamedTuple):
    """A line of acceptance: the mean over subjects of a figure."""

    workflow: str
    figure: str
    direction: str
    limit: float


WANTED: Final = (
    Wanted("01", "retrieval", "at least", 0.95), Wanted("01", "context obeyed", "at least", 0.95),
    Wanted("01", "the class alone is the subject", "at most", 0.1),
    Wanted("01", "the class alone is the subject, in its class", "at most", 0.1),
    *(Wanted(number, "retrieval", "at least", 0.8) for number in ("05", "06", "07", "08", "10")),
    Wanted("09", "retrieval", "at least", 0.98),
    Wanted("03", "DCI is higher", "at least", 0.8),
    Wanted("12", "alignment, last minus plain", "at least", 0.1),
    Wanted("13", "both nouns, one prompt", "at least", 0.7),
    Wanted("13", "both nouns, one prompt, DCI minus plain", "at least", 0.01),
    Wanted("11", "edges against Lanczos", "at least", 1.05),
)


def is_met(wanted: Wanted, value: float) -> bool:
    """Whether a figure meets its line."""
    return value >= wanted.limit if wanted.direction == "at least" else value <= wanted.limit
