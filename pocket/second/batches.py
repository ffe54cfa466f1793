"""Where do training's pictures come from? Rendered for every step, in worker processes where there are any.

Batch i of a stage is a function of i alone, whatever the number of workers, so that a resumed run sees what the
uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..textures import texture
from .config import SIZE
from .drawing import render
from .looks import SEEDS
from .scenes import training_scene

CROP: Final = 64
TEXTURE_SHARE: Final = 0.25


class Numbered(Dataset[Any]):
    """Batches by number: `make(i)`."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __getitem__(self, number: int) -> Any:
        return self.make(number)


class From:
    """The numbers from `start` on, without end: a sampler."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        number = self.start
        while True:
            yield number
            number += 1


def one_thread(worker: int) -> None:
    """Each worker is one of many: none may use several threads."""
    torch.set_num_threads(1)


def stream(make: Callable[[int], Any], start: int, workers: int) -> Iterator[Any]:
    """`make(start)`, `make(start + 1)`, ... made ahead of time by the workers, in order."""
    if workers == 0:
        return map(make, iter(From(start)))
    return iter(DataLoader(Numbered(make), batch_size=None, sampler=From(start), num_workers=workers,
                           prefetch_factor=4, worker_init_fn=one_thread, persistent_workers=False))


def crops(number: int, batch: int) -> torch.Tensor:
    """Crops of world pictures, a quarter generic textures, (batch, 3, 64, 64) uint8."""
    rng, textures = np.random.default_rng([number, 3]), max(1, int(batch * TEXTURE_SHARE))
    first = SEEDS["autoencoder"].start + number * batch
    pictures = [texture(first + i, CROP) for i in range(textures)]
    for seed in range(first + textures, first + batch):
        y, x = rng.integers(0, SIZE - CROP + 1, 2)
        pictures.append(render(training_scene(seed))[0][y:y + CROP, x:x + CROP])
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
