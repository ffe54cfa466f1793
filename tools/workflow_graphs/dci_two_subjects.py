"""Workflow 13: DCI with two subjects, in one prompt and in two halves of a picture."""

from __future__ import annotations

from ...pocket.config import SIZE
from ..graphs import Graph, Link
from .notes import explain
from .parts import Loaded, Start, empty_latent, encode, load_checkpoint, sample

# Two individuals that the pocket model knows by name, as a model that was trained on two subjects would.
FIRST, SECOND = ("aber", "dog"), ("abou", "cat")
AUXILIARY = ("robot", "teapot")
PLACE = "in the snow"
GROUPS = {0: "1 Model", 1: "2 Prompts", 2: "3 Places", 3: "4 Draw"}


def dci_two_subjects() -> Graph:
    """Two subjects: one auxiliary prompt for both, or one for each half."""
    graph = Graph("13 Two subjects in one picture (DCI)", groups=GROUPS)
    base = load_checkpoint(graph)
    model = graph.add(0, "PersonalizeDCIModel", {"model": base.model, "omega": 2.0, "window": -1.0,
                                                 "shared_guidance": True})
    dual = Loaded(model[0], base.clip, base.vae)
    negative = encode(graph, 1, base.clip, "", "Negative")
    names = [f"{identifier} {noun}" for identifier, noun in (FIRST, SECOND)]
    both = dci_encode(graph, base.clip, f"a {names[0]} next to a {names[1]} {PLACE}", (FIRST, SECOND), AUXILIARY,
                      "Both in one prompt")
    sample(graph, 3, dual, Start(both, negative, empty_latent(graph, 2)), "One prompt", "dci_two_subjects_prompt")
    halves = [half(graph, base.clip, who, other, x) for who, other, x in
              zip((FIRST, SECOND), AUXILIARY, (0.0, 0.5), strict=True)]
    together = encode(graph, 1, base.clip, PLACE, "Whole picture")
    for one in halves:
        together = graph.add(2, "ConditioningCombine", {"conditioning_1": together, "conditioning_2": one})[0]
    wide = graph.add(2, "EmptyLatentImage", {"width": 2 * SIZE, "height": SIZE, "batch_size": 4}, title="Twice as wide")
    sample(graph, 3, dual, Start(together, negative, wide[0]), "Two halves", "dci_two_subjects_halves")
    explain(graph, [
        "- **One prompt** with two subjects: one second prompt (*a robot next to a teapot in the snow*), and the words "
        "of both subjects make one mask\n- **Two halves**: a prompt for each half of the picture (Set Area), each with "
        "its own stand-in object, joined with Combine over a plain prompt for the whole picture",
        "One DCI Model serves them all.",
        "The pocket model knows these two by name. Asked for both in one prompt it mostly melts them; with DCI both "
        "are there about twice as often."],
            more=["*strength* is 2 here, the largest: begin with 1 on another model.",
                  "Use a model trained on your two subjects, their identifiers and nouns.",
                  "The second latent is twice as wide as high; *active until* -1 goes by the size."])
    return graph


def dci_encode(graph: Graph, clip: Link, prompt: str, subjects: tuple[tuple[str, str], ...],
               auxiliary: tuple[str, ...], title: str) -> Link:
    """A prompt about subjects, each an identifier and a class noun."""
    return graph.add(1, "PersonalizeDCIEncode", {"clip": clip, "prompt": prompt,
                                      "identifier": ", ".join(identifier for identifier, _ in subjects),
                                      "class_noun": ", ".join(noun for _, noun in subjects),
                                      "auxiliary_noun": ", ".join(auxiliary), "prompt_l": ""}, title=title)[0]


def half(graph: Graph, clip: Link, who: tuple[str, str], auxiliary: str, x: float) -> Link:
    """One subject in the half of the picture that begins at x."""
    side = "Left" if x == 0 else "Right"
    prompt = dci_encode(graph, clip, f"a {who[0]} {who[1]} {PLACE}", (who,), (auxiliary,), f"{side}: {who[1]}")
    return graph.add(2, "ConditioningSetAreaPercentage", {"conditioning": prompt, "width": 0.5, "height": 1.0, "x": x,
                                                          "y": 0.0, "strength": 1.0}, title=f"{side} half")[0]
