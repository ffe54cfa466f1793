"""One joint space of images and texts, as CLIP has (Radford et al. 2021, arXiv:2103.00020)."""

from __future__ import annotations

from typing import Protocol


class ImageTextEncoder(Protocol):
    """An encoder of images and texts with both projections."""
