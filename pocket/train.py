"""Retrains the pocket model: `python -m pocket.train --stage all --minutes 200 --work .pocket`.

Every stage can be cut off and called again: it goes on from its working files. On two cores the autoencoder's
decoder needs about a fifth of the time, the judge a twentieth, the generator the rest.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from .autoencoder import prepare_transform, train_decoder
from .evaluate import evaluate
from .export import export
from .image_text_figures import add_figures
from .image_text_training import train_image_text
from .judge import train_judge
from .parallel import train_in_parallel
from .refine import refine

SHARES = {"autoencoder": 0.2, "judge": 0.05, "generator": 0.6, "image-text": 0.15}
"""How `--stage all` divides the minutes."""


def run_autoencoder(work: Path, minutes: float) -> None:
    """The closed-form encoder and the trained decoder."""
    prepare_transform(work)
    train_decoder(work, minutes)


STAGES: dict[str, Callable[[Path, float], object]] = {
    "autoencoder": run_autoencoder,
    "judge": train_judge,
    "generator": train_in_parallel,
    "export": lambda work, _: export(work),
    "image-text": lambda _, minutes: train_image_text(minutes),
    "evaluate": lambda work, _: (evaluate(work), add_figures()),
}
"""In the order of `--stage all`; the judge is frozen before the generator is looked at, and the image-text encoder
reads the exported text encoder."""
REFINE = "refine"
"""Not part of `all`: goes on from the committed checkpoint's UNet, into `refined.safetensors` in the working folder."""


def run(stage: str, work: Path, minutes: float) -> None:
    """Runs one stage, or all of them with their shares of the minutes."""
    work.mkdir(parents=True, exist_ok=True)
    if stage == REFINE:
        refine(work, minutes)
        return
    if stage != "all":
        STAGES[stage](work, minutes)
        return
    for name, action in STAGES.items():
        action(work, minutes * SHARES.get(name, 0.0))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the pocket text-to-image model on a CPU; resumable.")
    parser.add_argument("--stage", choices=("all", *STAGES, REFINE), default="all")
    parser.add_argument("--minutes", type=float, default=200.0, help="training time of the stage, over all sittings")
    parser.add_argument("--work", type=Path, default=Path(".pocket"), help="folder of the working files")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run(given.stage, given.work, given.minutes)


if __name__ == "__main__":
    main()
