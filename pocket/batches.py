"""Where do training's pictures come from? Rendered for every step, in worker processes where there are any.

Batch i of a stage is a function of i alone, whatever the number of workers, so that a resumed run sees what the
uninterrupted one would have seen.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .config import SIZE
from .drawing import render
from .looks import SEEDS
from .scenes import training_scene
from .textures import texture

CROP: Final = 64
TEXTURE_SHARE: Final = 0.25


SHARED_BYTES: Final = 2 * 10**9
"""What batches on their way may take of shared memory; with less of it free they go through pipes."""


class Numbered(Dataset[Any]):
    """Batches by number: `make(i)`, as arrays where they must not travel through shared memory."""

    def __init__(self, make: Callable[[int], Any], is_shared: bool) -> None:
        self.make, self.is_shared = make, is_shared

    def __getitem__(self, number: int) -> Any:
        return self.make(number) if self.is_shared else mapped(torch.Tensor.numpy, torch.Tensor, self.make(number))


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
    """Each worker is one of many: none may use several threads, or keep what its parent does when asked to end."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def unchanged(batch: Any) -> Any:
    """In place of torch's own conversion, which would put arrays into shared memory after all."""
    return batch


def mapped(function: Callable[[Any], Any], kind: type, value: Any) -> Any:
    """The function applied to every object of a kind inside tuples (named ones too) and dictionaries."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, dict):
        return {key: mapped(function, kind, item) for key, item in value.items()}
    items = [mapped(function, kind, item) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)


def stream(make: Callable[[int], Any], start: int, workers: int, is_pinned: bool = False) -> Iterator[Any]:
    """`make(start)`, `make(start + 1)`, ... made ahead of time by the workers, in order.

    Args:
        is_pinned: whether batches lie in pinned memory, from where a CUDA device copies while other work goes on.
    """
    if workers == 0:
        return map(make, iter(From(start)))
    memory = Path("/dev/shm")  # noqa: S108 - its free room is asked, nothing is written
    is_shared = not memory.exists() or shutil.disk_usage(memory).free > SHARED_BYTES
    batches = DataLoader(Numbered(make, is_shared), batch_size=None, sampler=From(start), num_workers=workers,
                         prefetch_factor=3, worker_init_fn=one_thread, collate_fn=unchanged,
                         pin_memory=is_pinned and is_shared)
    return iter(batches) if is_shared else (mapped(torch.from_numpy, np.ndarray, batch) for batch in batches)


def crops(number: int, batch: int) -> torch.Tensor:
    """Crops of world pictures, a quarter generic textures, (batch, 3, 64, 64) uint8."""
    rng, textures = np.random.default_rng([number, 3]), max(1, int(batch * TEXTURE_SHARE))
    first = SEEDS["autoencoder"].start + number * batch
    pictures = [texture(first + i, CROP) for i in range(textures)]
    for seed in range(first + textures, first + batch):
        y, x = rng.integers(0, SIZE - CROP + 1, 2)
        pictures.append(render(training_scene(seed))[0][y:y + CROP, x:x + CROP])
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
