"""Workflow 1: photos and class images to a LoRA and pictures."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    FILE,
    FOUR_STEPS,
    Loaded,
    Start,
    empty_latent,
    encode,
    keep,
    load_checkpoint,
    pick_identifier,
    prior_preservation,
    prompt_about,
    sample,
    several_photos,
    train,
)


def dreambooth_with_prior_preservation() -> Graph:
    """Photos and class images to a personalization and pictures."""
    graph = Graph("01 Your pet in a new place (DreamBooth LoRA)", groups={**FOUR_STEPS, 2: "3 Prompt and train"})
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 0, identifier)
    objective = prior_preservation(graph, 1, base)
    trainer = train(graph, 2, base, subject[0], objective, "pocket_dog")
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = prompt_about(graph, 2, "in the snow", identifier, before=trainer.inputs["options"].node)
    positive = encode(graph, 3, mine.clip, text, "Positive")
    keep(graph, 2, trainer, FILE)
    preview = graph.add(2, "PersonalizeTrainingPreview", {"prompt": "a {V} {noun} in the snow"}, before=trainer)
    trainer.inputs["preview"] = preview[0]
    start = Start(positive, encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3))
    sample(graph, 3, mine, start, "Your subject", "pocket_dog_dreambooth")
    explain(graph, [
        "Press **Run**: four photos of one dog become a LoRA, then pictures of that dog elsewhere. It is trained once; "
        "another Run loads the result.",
        "**Your own subject**:\n\n- 3 to 5 photos with different backgrounds\n- what it is in *class_noun*, in three "
        "nodes, and in the prompt",
        "The class images keep 'a dog' from becoming *your* dog. 100 to 200 are usual; they are kept on disk. "
        "*Training Preview* shows how far it is."])
    return graph
