"""What a template's notes say: what it is for, and which of its settings to change for another family of models.

The second is made from the template's own widgets, and from the families' recipes and the methods' published settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from ...core.training.presets import PRESETS
from ...core.training.recipe import Recipe, resolve, resolve_sampling
from ...core.training.recipe_files import ModelFacts, published, recipe
from ..graphs import NOTES, Graph, Link, Node

ABOUT, OTHER = "What this does", "Another model"
FAMILIES: Final = ("Stable Diffusion 1.5", "SDXL")
WIDGETS: Final = {
    "resolution": (("PersonalizeTrainer", "resolution"),),
    "learning_rate": (("PersonalizeTrainer", "learning_rate"),),
    "batch": (("PersonalizeTrainer", "batch"),),
    "steps": (("PersonalizeTrainer", "steps"),),
    "targets": (("PersonalizeTrainingOptions", "targets"),),
    "text_encoder_rate": (("PersonalizeTrainingOptions", "text_encoder_rate"),),
    "size": (("EmptyLatentImage", "height"), ("ImageScale", "height"), ("PersonalizeEvaluate", "size")),
    "cfg": (("KSampler", "cfg"), ("PersonalizeEvaluate", "cfg"), ("PersonalizeDCIMasks", "cfg")),
}
"""Settings that follow the model, each with the widgets that may hold it: of a node that draws the subject, else the
first that a graph has."""
OF_THE_DENOISER: Final = ("learning_rate", "targets", "text_encoder_rate")


def explain(graph: Graph, about: Sequence[str], *, method: str = "", photos: int = 4, more: Sequence[str] = (),
            groups: tuple[int, int] = (NOTES, NOTES)) -> None:
    """Put the two notes where they are read first, or into other groups.

    Args:
        about: paragraphs; lines that begin with "- " are a list.
        method: of `PRESETS`, where another than LoRA is taught.
        more: what else there is to know of other models.
    """
    graph.note(groups[0], "\n\n".join(about), title=ABOUT, before=graph.nodes[0])
    lines = ["Choose it where this one is loaded, then change:", "", *family_lines(graph, method, photos)]
    if method:
        lines.append(f"- **Published, for Stable Diffusion**: {PRESETS[method].needs}")
    graph.note(groups[1], "\n".join([*lines, *(f"- {line}" for line in more)]), title=OTHER)


def family_lines(graph: Graph, method: str, photos: int) -> Iterator[str]:
    """The settings of the graph, then what they are with other families, a line of a list each."""
    here = dict(own_settings(graph))
    yield _line("Here: the pocket model", here)
    known = {file.name: file for file in published()}
    for name in FAMILIES:
        file = known[name]
        there = settings_of(recipe(ModelFacts(classes=file.models, shape=file.shape)), method, photos)
        yield _line(name, {key: there[key] for key in here})


def own_settings(graph: Graph) -> Iterator[tuple[str, Any]]:
    """The settings that a graph has, by name."""
    frozen = any(node.inputs.get("train_unet") is False for node in graph.nodes)
    for name, places in WIDGETS.items():
        found = [(node, widget) for kind, widget in places for node in graph.nodes
                 if node.class_type == kind and widget in node.inputs and not isinstance(node.inputs[widget], Link)]
        if found and not (frozen and name in OF_THE_DENOISER):
            node, widget = min(found, key=lambda each: not _knows_the_subject(each[0]))
            yield name, node.inputs[widget]


def _knows_the_subject(node: Node) -> bool:
    """Whether a node's MODEL comes, through whatever patches, from a personalization."""
    link = node.inputs.get("model")
    while isinstance(link, Link):
        if link.node.class_type in ("PersonalizeTrainer", "PersonalizeLoad"):
            return True
        link = link.node.inputs.get("model")
    return False


def settings_of(family: Recipe, method: str, photos: int) -> dict[str, Any]:
    """The same by a family's recipe, and by a method's published settings."""
    values = {**resolve(family, photos).values, **resolve_sampling(family).values, "text_encoder_rate": 0.0}
    if method:
        preset = PRESETS[method]
        values |= {"learning_rate": preset.learning_rate, "steps": preset.steps,
                   "targets": preset.options.adapter.targets, "text_encoder_rate": preset.options.text_encoder_rate}
    return values


def _line(name: str, values: dict[str, Any]) -> str:
    return f"- **{name}**: " + ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                                         for key, value in values.items())
