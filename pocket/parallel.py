"""Two processes of one thread each, over gloo: on two shared cores this beats two OpenMP threads by far."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import distributed
from torch import multiprocessing as mp

from .autoencoder import prepare_transform
from .generator import train_generator


def worker(rank: int, world: int, work: str, minutes: float, rendezvous: str) -> None:
    """One process of the generator's training."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    train_generator(Path(work), prepare_transform(Path(work)), minutes, rank, world)


def train_in_parallel(work: Path, minutes: float, processes: int = 2) -> None:
    """Runs `worker` in every process and waits; with one process, in this one."""
    prepare_transform(work)
    rendezvous = (work / "rendezvous").absolute()
    rendezvous.unlink(missing_ok=True)
    arguments = (processes, str(work), minutes, str(rendezvous))
    if processes == 1:
        worker(0, *arguments)
    else:
        mp.spawn(worker, args=arguments, nprocs=processes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path(".pocket"))
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    train_in_parallel(given.work, given.minutes, given.processes)
