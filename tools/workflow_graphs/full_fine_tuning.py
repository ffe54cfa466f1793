"""Workflow 9: DreamBooth as published, all weights, kept as a checkpoint."""

from __future__ import annotations

from ..graphs import Graph
from .notes import explain
from .parts import (
    FOUR_STEPS,
    Loaded,
    Start,
    empty_latent,
    encode,
    load_checkpoint,
    pick_identifier,
    prior_preservation,
    prompt_about,
    sample,
    several_photos,
    train,
)

RATE = 1e-4
OPTIONS = {"kind": "full", "targets": "all", "text_encoder_rate": RATE, "save_every": 0}


def full_fine_tuning() -> Graph:
    """Four photos to a checkpoint of its own, and pictures."""
    graph = Graph("09 A checkpoint of your own (DreamBooth, all weights)", groups={**FOUR_STEPS, 3: "4 Draw, keep"})
    base = load_checkpoint(graph)
    identifier = pick_identifier(graph, base.clip)
    subject = several_photos(graph, 0, identifier)
    objective = prior_preservation(graph, 1, base)
    trainer = train(graph, 2, base, subject[0], objective, "pocket_full", OPTIONS, learning_rate=RATE, steps=250,
                    batch=2)
    mine = Loaded(trainer[0], trainer[1], base.vae)
    positive = encode(graph, 3, mine.clip, prompt_about(graph, 3, "in the jungle", identifier), "Positive")
    graph.add(3, "CheckpointSave", {"model": mine.model, "clip": mine.clip, "vae": mine.vae,
                                    "filename_prefix": "checkpoints/pocket_dog"}, title="Your own checkpoint")
    start = Start(positive, encode(graph, 3, mine.clip, "", "Negative"), empty_latent(graph, 3))
    sample(graph, 3, mine, start, "Your subject", "pocket_dog_full")
    explain(graph, [
        "**DreamBooth** (arXiv:2208.12242) as published: every weight of the diffusion model learns, here those of the "
        "text encoder, too. Best likeness, most memory, largest file.",
        "*Save Checkpoint* writes a whole checkpoint to `output/checkpoints`; move it to `models/checkpoints` and load "
        "it anywhere. Without class images all dogs would become yours."],
            method="dreambooth",
            more=["Beside the loaded model it takes 8 bytes per weight and the optimiser's state: 7 GB for SD 1.5, "
                  "21 GB for SDXL with Adafactor, the diffusion model alone."])
    return graph
