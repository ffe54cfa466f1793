"""Trains the pocket model: `POCKET_STATE=../pocket.state python -m pocket.train --minutes 200`.

Every sitting goes on from the state file and leaves it behind; a stage that was cut off loses four minutes at most.
Needs torch, numpy, Pillow and safetensors, no ComfyUI.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

from .autoencoder import MAX_NOISE
from .device import Machine, find_machine
from .more_stages import train_encoder, train_upscaler
from .sitting import Plan
from .stages import train_autoencoder, train_decoder, train_generator, train_judge
from .state import freeze, is_frozen, state_path

STAGES: Final[dict[str, Callable[[Plan, Machine], None]]] = {
    "autoencoder": lambda plan, machine: train_autoencoder(plan, machine, MAX_NOISE),
    "judge": train_judge,
    "generator": train_generator,
    "decoder": train_decoder,
    "encoder": train_encoder,
    "upscaler": train_upscaler,
}
SHARES: Final = {"autoencoder": 0.13, "judge": 0.09, "generator": 0.61, "decoder": 0.09, "encoder": 0.04,
                 "upscaler": 0.04}
"""How `--stage all` divides the minutes. The judge is frozen before the generator is looked at."""
BATCHES: Final = {"cpu": {"autoencoder": 16, "judge": 64, "generator": 64, "decoder": 16,
                          "encoder": 96, "upscaler": 16},
                  "cuda": {"autoencoder": 128, "judge": 256, "generator": 512, "decoder": 128,
                           "encoder": 256, "upscaler": 64}}
REUSE: Final = {"cpu": {}, "cuda": {"autoencoder": 2, "decoder": 2}}
"""Steps that share a batch of pictures, where the device is faster than its host draws."""


def shares(path: Path) -> dict[str, float]:
    """The stages still to run and their shares of the time: what is frozen leaves its time to the others."""
    open_stages = {name: share for name, share in SHARES.items() if not is_frozen(path, name)}
    return {name: share / sum(open_stages.values()) for name, share in open_stages.items()}


def run_stage(name: str, path: Path, minutes: float, machine: Machine, *, is_last: bool,
              batch: int | None = None, max_steps: int | None = None) -> None:
    """One stage for its minutes."""
    kind = machine.device.type
    STAGES[name](Plan(path=path, minutes=minutes, batch=batch or BATCHES[kind][name], is_last=is_last,
                      max_steps=max_steps, reuse=REUSE[kind].get(name, 1)), machine)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--minutes", type=float, default=200.0, help="length of this sitting")
    parser.add_argument("--state", help="the state file; default: $POCKET_STATE, or .pocket/pocket.state")
    parser.add_argument("--last", action="store_true", help="lower the learning rate towards the end of the sitting")
    parser.add_argument("--steps", type=int, help="stop a stage after so many steps")
    parser.add_argument("--batch", type=int, help="pictures a step; default by stage and device")
    parser.add_argument("--device", default="auto", help="auto (CUDA where it is), cpu or cuda")
    parser.add_argument("--workers", type=int, default=-1, help="rendering processes; default by device")
    parser.add_argument("--compile", action="store_true", help="compile the generator's step")
    parser.add_argument("--freeze", nargs="+", choices=tuple(STAGES), default=[],
                        help="only this: keep of finished networks what use needs, and never train them again")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    machine, path = find_machine(given.device, given.workers, given.compile), state_path(given.state)
    if machine.device.type == "cpu" and given.workers > 0:
        torch.set_num_threads(1)
    if given.freeze:
        freeze(path, *given.freeze)
        return
    if given.stage != "all" and is_frozen(path, given.stage):
        raise SystemExit(f"stage: got {given.stage!r}, expected one that is not frozen in {path}: others rely on it")
    planned = shares(path) if given.stage == "all" else {given.stage: 1.0}
    for name, share in planned.items():
        run_stage(name, path, given.minutes * share, machine, is_last=given.last or given.stage == "all",
                  batch=given.batch, max_steps=given.steps)


if __name__ == "__main__":
    main()
