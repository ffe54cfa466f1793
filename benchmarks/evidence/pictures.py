"""A cell's pictures on disk: what every measure looks at, so that a new measure needs no new training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from .measures import Pictures


def write_pictures(path: Path, references: Tensor, base: Tensor, drawn: Sequence[Pictures]) -> None:
    """Everything that was looked at, as bytes: photos and base (N, 3, H, W), the rest (checkpoints, N, 3, H, W)."""
    arrays = {"references": references, "base": base}
    arrays |= {name: torch.stack([getattr(pictures, name) for pictures in drawn])
               for name in ("prompted", "plain", "classes")}
    values: dict[str, Any] = {name: (array.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
                              for name, array in arrays.items()}
    numpy.savez_compressed(path, **values)


def read_pictures(path: Path) -> tuple[Tensor, Tensor, list[Pictures]]:
    """What `write_pictures` wrote, in 0..1: references, base, one `Pictures` per checkpoint."""
    with numpy.load(path) as arrays:
        found = {name: torch.from_numpy(arrays[name]).float() / 255 for name in arrays.files}
    drawn = [Pictures(prompted=prompted, plain=plain, classes=classes) for prompted, plain, classes
             in zip(found["prompted"], found["plain"], found["classes"], strict=True)]
    return found["references"], found["base"], drawn
