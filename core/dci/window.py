"""How long does DCI's window last for latents of a size, where the user leaves it open?

The published 0.3 belongs to 64 x 64 cells. Fewer cells show their layout at less noise, more at more noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from .dbim import PUBLISHED_LATENTS

PUBLISHED_WINDOW: Final = 0.3
"""At 64 x 64 cells."""
SMALL_LATENTS: Final = 12 * 12
"""Cells at which the sweep on held-in subjects found window 1 best (docs/dci_defaults.md)."""
AUTOMATIC: Final = -1.0
"""What a widget says for: by the latents' size."""


def given_window(window: float) -> float | None:
    """A widget's window: None, which is by the latents' size, for `AUTOMATIC`."""
    return None if window == AUTOMATIC else window


def automatic_window(cells: int) -> float:
    """The fraction of the noise schedule: 0.3 for 4,096 cells and more, 1 for 144 and fewer, between them linear in
    log(cells) (*ours*).
    """
    steps = math.log(PUBLISHED_LATENTS / min(max(cells, SMALL_LATENTS), PUBLISHED_LATENTS))
    return PUBLISHED_WINDOW + (1 - PUBLISHED_WINDOW) * steps / math.log(PUBLISHED_LATENTS / SMALL_LATENTS)


def automatic_end(cells: int, percent_to_sigma: Callable[[float], float], sigma_max: float) -> float:
    """The noise level at which the window ends for latents of so many cells (of one frame).

    Of more than 4,096 cells it is the published one times sqrt(cells / 4096), the noise that hides as much of a
    larger picture. Flow schedules (sigma up to 1) are shifted by size themselves: for them the fraction stays.

    Source: Hoogeboom et al. 2023 (simple diffusion), section 3.1, for the shift.
    """
    end = float(percent_to_sigma(automatic_window(cells)))
    if cells <= PUBLISHED_LATENTS or sigma_max <= 1:
        return end
    return min(end * math.sqrt(cells / PUBLISHED_LATENTS), sigma_max)
