"""How the example of workflows 3 and 12 came about: one photo, trained for too long. No template of the gallery.

DCI is for a model that draws the subject so firmly in its photo's surroundings that a prompt cannot take it away. A
subject of four photos, trained moderately, obeys the prompt by itself. Here one photo is learned almost by heart, while
class images keep what the model knows: of the class, and of the stand-in object in other surroundings, from which DCI
borrows. The text encoder does not learn: where it does, prompts of the stand-in fail as well, and there is nothing to
borrow.
"""

from __future__ import annotations

from ..graphs import Graph, Node
from .parts import (
    CLASS_IMAGES,
    NOUN,
    OVERFITTED,
    PHOTOS,
    STAND_IN,
    keep,
    load_checkpoint,
    pick_identifier,
    train,
)

PLACES = ("in the city", "under water", "at night", "on a wooden floor")
"""Of the stand-in's class images: none that workflows 3 and 12 ask for."""
COUNT = 8
TRAINING = {"steps": 700, "learning_rate": 1e-3, "batch": 2}
RANK = 16


def overfitted_example() -> Graph:
    """One photo to a personalization that cannot leave it."""
    graph = Graph("Overfitted example")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    photo = graph.add(0, "LoadImage", {"image": PHOTOS[1]})
    subject = graph.add(0, "PersonalizeSubjectPhotos", {"images.image0": photo[0], "identifier": identifier,
                                                        "class_noun": NOUN})
    prior: Node | None = None
    for noun in (NOUN, STAND_IN, *(f"{STAND_IN} {place}" for place in PLACES)):
        inputs = {"model": base.model, "clip": base.clip, "vae": base.vae, **CLASS_IMAGES, "class_noun": noun,
                  "count": COUNT}
        prior = graph.add(1, "PriorSampleGen", {**inputs, **({"prior": prior[0]} if prior else {})})
    assert prior
    objective = graph.add(1, "PersonalizePriorPreservation", {"prior": prior[0], "weight": 1.0})
    trainer = train(graph, 2, base, subject[0], objective[0], "pocket_dog_overfitted",
                    {"rank": RANK, "alpha": float(RANK), "text_encoder_rate": 0.0, "save_every": 0}, **TRAINING)
    keep(graph, 2, trainer, OVERFITTED)
    return graph
