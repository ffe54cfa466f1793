"""Workflow 9: DreamBooth as published, all weights, kept as a checkpoint."""

from __future__ import annotations

from ..graphs import Graph
from .parts import (
    ABOUT,
    NOUN,
    OTHER,
    OTHER_MODELS,
    Loaded,
    Start,
    empty_latent,
    encode,
    load_checkpoint,
    name_the_subject,
    pick_identifier,
    prior_preservation,
    sample,
    several_photos,
    train,
)

RATE = 1e-4
OPTIONS = {"kind": "full", "targets": "all", "text_encoder_rate": RATE, "save_every": 0}


def full_fine_tuning() -> Graph:
    """Four photos to a checkpoint of its own, and pictures."""
    graph = Graph("09 Full fine-tuning")
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 1, identifier)
    objective = prior_preservation(graph, 2, base)
    trainer = train(graph, 3, base, subject[0], objective, "pocket_full", OPTIONS, learning_rate=RATE, steps=250)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    text = name_the_subject(graph, 4, f"a {{V}} {NOUN} in the desert", identifier)
    positive = encode(graph, 4, mine.clip, text, "Positive")
    graph.add(4, "CheckpointSave", {"model": mine.model, "clip": mine.clip, "vae": mine.vae,
                                    "filename_prefix": "checkpoints/pocket_dog"}, title="Your own checkpoint")
    graph.add(4, "LossGraphNode", {"loss": trainer[3], "filename_prefix": "pocket_dog_loss"}, size=(315, 300))
    start = Start(positive, encode(graph, 5, mine.clip, "", "Negative"), empty_latent(graph, 5))
    sample(graph, 5, mine, start, "Your subject", "pocket_dog_full")
    explain(graph)
    return graph


def explain(graph: Graph) -> None:
    """The notes."""
    graph.note(0, "**DreamBooth** (arXiv:2208.12242) as published: every weight of the diffusion model learns, here "
                  "those of the text encoder, too. Best likeness, most memory, largest file.\n\n*Save Checkpoint* "
                  "writes a whole checkpoint to `output/checkpoints`; move it to `models/checkpoints` and load it "
                  "anywhere. Without class images all dogs would become yours.", height=280, title=ABOUT)
    graph.note(0, f"{OTHER_MODELS}\nAll weights on SD 1.5: learning_rate 5e-6, text_encoder_rate 5e-6 or 0, 800 steps, "
                  "200 class images. Beside the loaded model it takes 8 bytes per weight and the optimiser's state: "
                  "7 GB for SD 1.5, 21 GB for SDXL with Adafactor, the diffusion model alone.", height=380, title=OTHER)
