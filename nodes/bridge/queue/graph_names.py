"""Are the names of a queued graph those of its subjects? What can be seen before anything runs, and nothing more.

Widgets tell the names of Subject Photos and Object Mask, files those of Load Personalization. Where a name comes from
elsewhere, or a prompt from a node that is not known here, nothing is said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ....core.errors import InputError
from ....core.subject.photo_warnings import warnings_about_batch
from ....core.wording import fold, has_word
from ..files.embeddings import identifiers
from ..files.personalizations import check_file
from ..sockets import OBJECTIVE, OBJECTS, PRIOR, SUBJECT
from .graph_walk import Graph, Link, link_of, links, links_of_type, title, upstream

Warnings = Iterator[tuple[str, str]]
"""Ids of nodes, and what is to be said of them."""
Text = str | Link | None
"""A word as a widget holds it, or the link that it comes through; None where it cannot be known."""

TRAINER, LOADER = "PersonalizeTrainer", "PersonalizeLoad"
IDENTIFIER_OUTPUT = {TRAINER: 7, LOADER: 2}
WITH_NAMES = frozenset({"PersonalizeSubjectPhotos", "PersonalizeObjectMask"})
WITHOUT_NAMES = frozenset({"PersonalizeScenePhoto"})
DCI_NODES = frozenset({"PersonalizeDCIEncode", "DCIConditioning", "PersonalizeDCIMasks",
                       "PersonalizeAuxiliaryNounPicker"})
POOLS = frozenset({"PriorSampleGen", "PersonalizeRegularizationImages"})
POSITIVE = frozenset({"positive", "conditioning", "cond1", "cond2"})
FILLED = "PersonalizePromptWithSubject"
TEXT_NODES = frozenset({"PrimitiveString", "PrimitiveStringMultiline", "StringConcatenate", "StringReplace",
                        "StringTrim", "CaseConverter"})
"""Nodes whose text is made of their widgets and of the texts linked to them."""
ONE_PICTURE = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class SubjectName:
    """What stands for one subject, and the node that says so."""

    node: str
    identifier: Text
    noun: Text


def name_warnings(graph: Graph) -> Warnings:
    """Prompts without their subject, nouns that disagree, batches larger than the photos."""
    yield from missing_identifiers(graph)
    yield from other_pools(graph)
    yield from other_dci_nouns(graph)
    yield from large_batches(graph)


def missing_identifiers(graph: Graph) -> Warnings:
    """Prompts that are sampled by a personalized MODEL and have none of its identifiers."""
    said: set[str] = set()
    for sampler in graph:
        found = [subjects_of(graph, name) for name in personalizers(graph, sampler)]
        subjects = [named for each in found for named in each or ()]
        if not subjects or None in found or not all(isinstance(named.identifier, str) for named in subjects):
            continue
        prompts = prompt_nodes(graph, sampler)
        texts = [texts_of(graph, name) for name in prompts]
        if not prompts or prompts[0] in said or any(not each or _names_any(each, subjects) for each in texts):
            continue
        said.add(prompts[0])
        yield prompts[0], (
            f"the prompt of {title(graph, prompts[0])} for {title(graph, sampler)} has no "
            f"{' or '.join(repr(named.identifier) for named in subjects)}, the identifier in "
            f"{title(graph, subjects[0].node)}: the picture need not show your subject. Write for example "
            f"'a {subjects[0].identifier} {subjects[0].noun if isinstance(subjects[0].noun, str) else 'dog'}'.")


def other_pools(graph: Graph) -> Warnings:
    """Class images of a noun that no subject of their trainer has."""
    for trainer in _of_class(graph, {TRAINER}):
        subjects, objective = subjects_of(graph, trainer), links(graph[trainer]).get("objective")
        if not subjects or objective is None or not all(isinstance(named.noun, str) for named in subjects):
            continue
        for pool in upstream(graph, [objective], {OBJECTIVE.io_type, PRIOR.io_type}):
            noun = graph[pool]["inputs"].get("class_noun")
            if graph[pool]["class_type"] in POOLS and isinstance(noun, str) and not _has_noun(subjects, noun):
                yield pool, (f"{title(graph, pool)} has class images of {noun!r}, and {title(graph, subjects[0].node)} "
                             f"the class noun {subjects[0].noun!r}. Write the same class noun in both.")


def other_dci_nouns(graph: Graph) -> Warnings:
    """DCI nodes that have a subject's identifier beside another noun than the subject's."""
    known = _by_identifier(graph)
    for name in _of_class(graph, DCI_NODES):
        for identifier, noun in _pairs(graph[name]["inputs"]):
            subjects = known.get(_key(identifier), [])
            if not subjects or not all(isinstance(named.noun, str) for named in subjects):
                continue
            if not _has_noun(subjects, noun):
                yield name, (f"{title(graph, name)} has the class noun {noun!r}, and {title(graph, subjects[0].node)} "
                             f"{subjects[0].noun!r} for the same identifier. Write the same class noun in both.")


def large_batches(graph: Graph) -> Warnings:
    """Trainers whose batch holds photos twice."""
    for trainer in _of_class(graph, {TRAINER}):
        batch, photos = graph[trainer]["inputs"].get("batch"), _count_photos(graph, trainer)
        if isinstance(batch, int) and photos is not None:
            yield from ((trainer, warning) for warning in warnings_about_batch(batch, photos))


def personalizers(graph: Graph, sampler: str) -> list[str]:
    """The nodes that personalized the MODEL of a node that samples, the last one on each way."""
    linked = links(graph[sampler])
    if "model" not in linked or not POSITIVE & linked.keys():
        return []
    return [name for name in upstream(graph, [linked["model"]], {"MODEL"}, stops=IDENTIFIER_OUTPUT.keys())
            if graph[name]["class_type"] in IDENTIFIER_OUTPUT]


def prompt_nodes(graph: Graph, sampler: str) -> list[str]:
    """The nodes that encode the positive prompts of a node that samples."""
    start = [link for name, link in links(graph[sampler]).items() if name in POSITIVE]
    return [name for name in upstream(graph, start, {"CONDITIONING"})
            if not links_of_type(graph, name, {"CONDITIONING"})]


def texts_of(graph: Graph, encoder: str) -> list[str] | None:
    """All texts that a node encodes, or that its text is made of; None where one is not known, or where the node itself
    puts the names in."""
    chain = list(upstream(graph, [(encoder, 0)], {"STRING"}))
    if graph[encoder]["class_type"] == FILLED or any(graph[name]["class_type"] not in TEXT_NODES for name in chain[1:]):
        return None
    return [value for name in chain for value in graph[name]["inputs"].values() if isinstance(value, str)] or None


def subjects_of(graph: Graph, name: str) -> list[SubjectName] | None:
    """The names of a trainer's or a loader's subjects; None where something else says them."""
    if graph[name]["class_type"] == LOADER:
        return _names_of_file(name, graph[name]["inputs"].get("name"))
    sources = _subject_nodes(graph, name)
    if not sources or any(graph[each]["class_type"] not in WITH_NAMES | WITHOUT_NAMES for each in sources):
        return None
    return [_name_of(graph, each) for each in sources if graph[each]["class_type"] in WITH_NAMES]


def _subject_nodes(graph: Graph, trainer: str) -> list[str]:
    subject = links(graph[trainer]).get("subject")
    return list(upstream(graph, [subject], {SUBJECT.io_type, OBJECTS.io_type})) if subject else []


def _name_of(graph: Graph, name: str) -> SubjectName:
    inputs = graph[name]["inputs"]
    return SubjectName(name, _text(inputs.get("identifier")), _text(inputs.get("class_noun")))


def _names_of_file(node: str, file: Any) -> list[SubjectName] | None:
    try:
        metadata = check_file(file)
        return [SubjectName(node, *named) for named in zip(identifiers(metadata), metadata["class_nouns"], strict=True)]
    except (InputError, OSError, TypeError, ValueError, KeyError):  # the node itself says what is wrong with the file
        return None


def _by_identifier(graph: Graph) -> dict[Text, list[SubjectName]]:
    """The subjects of the graph by what their identifier is, and by the outputs that hand it on."""
    found: dict[Text, list[SubjectName]] = {}
    for name in _of_class(graph, WITH_NAMES):
        named = _name_of(graph, name)
        found.setdefault(_key(named.identifier), []).append(named)
    for name in _of_class(graph, IDENTIFIER_OUTPUT.keys()):
        for named in subjects_of(graph, name) or ():
            found.setdefault((name, IDENTIFIER_OUTPUT[graph[name]["class_type"]]), []).append(named)
            if graph[name]["class_type"] == LOADER:
                found.setdefault(_key(named.identifier), []).append(named)
    return found


def _pairs(inputs: Mapping[str, Any]) -> list[tuple[Text, str]]:
    """Identifier and noun of each subject of a DCI node, which separates several by commas."""
    identifier, noun = _text(inputs.get("identifier")), inputs.get("class_noun")
    if identifier is None or not isinstance(noun, str):
        return []
    if not isinstance(identifier, str):
        return [] if "," in noun else [(identifier, noun)]
    names, nouns = identifier.split(","), noun.split(",")
    return list(zip(names, nouns, strict=True)) if len(names) == len(nouns) else []


def _count_photos(graph: Graph, trainer: str) -> int | None:
    """How many photos a trainer gets, where each comes from a Load Image of its own."""
    count = 0
    for name in _subject_nodes(graph, trainer):
        photos = [link for key, link in links(graph[name]).items() if key.startswith("images.") or key == "image"]
        if graph[name]["class_type"] != "PersonalizeObjectMask":
            if not photos or not all(_is_one_picture(graph, source) for source, _ in photos):
                return None
            count += len(photos)
    return count or None


def _is_one_picture(graph: Graph, name: str) -> bool:
    node = graph.get(name, {})
    return node.get("class_type") == "LoadImage" and str(node["inputs"].get("image")).lower().endswith(ONE_PICTURE)


def _names_any(texts: Collection[str], subjects: Collection[SubjectName]) -> bool:
    return any("embedding:" in text or has_word(text, str(named.identifier))
               for text in texts for named in subjects)


def _has_noun(subjects: Collection[SubjectName], noun: str) -> bool:
    return fold(noun) in [fold(str(named.noun)) for named in subjects]


def _text(value: Any) -> Text:
    return value if isinstance(value, str) else link_of(value)


def _key(identifier: Text) -> Text:
    return fold(identifier) if isinstance(identifier, str) else identifier


def _of_class(graph: Graph, classes: Collection[str]) -> list[str]:
    return [name for name, node in graph.items() if node["class_type"] in classes]
