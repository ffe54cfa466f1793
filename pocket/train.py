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
from .judge import train_judge
from .parallel import train_in_parallel

SHARES = {"autoencoder": 0.2, "judge": 0.05, "generator": 0.75}
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
    "evaluate": lambda work, _: evaluate(work),
}
"""In the order of `--stage all`; the judge is frozen before the generator is looked at."""


def run(stage: str, work: Path, minutes: float) -> None:
    """Runs one stage, or all of them with their shares of the minutes."""
    work.mkdir(parents=True, exist_ok=True)
    if stage != "all":
        STAGES[stage](work, minutes)
        return
    for name, action in STAGES.items():
        action(work, minutes * SHARES.get(name, 0.0))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the pocket text-to-image model on a CPU; resumable.")
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--minutes", type=float, default=200.0, help="training time of the stage, over all sittings")
    parser.add_argument("--work", type=Path, default=Path(".pocket"), help="folder of the working files")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run(given.stage, given.work, given.minutes)


if __name__ == "__main__":
    main()
