"""A sheet of the DCI bench's pictures: each subject sampled plainly, and with DCI below."""

from __future__ import annotations

from pathlib import Path

import numpy
from PIL import Image

from .dci_settings import ASKED, SEEDS

SHOWN = 2
"""Pictures per prompt."""


def write_sheet(cells: Path, page: Path, first: str = "plain", second: str = "dci") -> bool:
    """Write a JPEG with two rows per subject, prompts from left to right; False where no subject has both.

    Args:
        cells: the folder in which the cells lie.
        page: the picture to write.
        first: the setting above.
        second: the setting below, of the same prompts and noise.
    """
    columns = [prompt * SEEDS + number for prompt in range(len(ASKED)) for number in range(SHOWN)]
    rows = []
    for above in sorted(cells.glob(f"{first}-*.npz"), key=lambda path: int(path.stem.split("-")[-2])):
        below = above.with_name(above.name.replace(first, second, 1))
        if below.exists():
            rows += [_row(path, columns) for path in (above, below)]
    if rows:
        Image.fromarray(numpy.concatenate(rows)).save(page, quality=70)
    return bool(rows)


def _row(path: Path, columns: list[int]) -> numpy.ndarray:
    """Pictures of a cell side by side, (H, columns W, 3)."""
    with numpy.load(path) as arrays:
        pictures = arrays["pictures"][columns]
    return numpy.concatenate(list(pictures.transpose(0, 2, 3, 1)), axis=1)
