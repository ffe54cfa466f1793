"""How does a picture look as a drawing, a mosaic, a silhouette, pixel art or a watercolour? Pure picture operations."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

LUMINANCE: Final = np.array([0.299, 0.587, 0.114], np.float32)
TILE: Final = 6
"""Pixels of a mosaic stone, its joint included."""
PIXEL: Final = 4
"""Pixels along a square of pixel art."""


def apply_style(style: str, picture: Image.Image, labels: np.ndarray, rng: random.Random) -> np.ndarray:
    """A canvas of (2 s, 2 s) and its label map -> (s, s, 3) uint8 in the style."""
    return STYLE_RENDERERS[style](picture, labels, rng)


def pencil(picture: Image.Image, labels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Dark outlines and a little shading on paper."""
    grey = np.asarray(picture, np.float32) @ LUMINANCE
    edge = np.zeros_like(grey)
    edge[:, 1:] += np.abs(np.diff(grey, axis=1))
    edge[1:] += np.abs(np.diff(grey, axis=0))
    outline = labels.astype(np.int16)
    edge[:, 1:] += 200 * (np.diff(outline, axis=1) != 0)
    edge[1:] += 200 * (np.diff(outline, axis=0) != 0)
    thick = np.asarray(Image.fromarray(np.clip(edge * 3, 0, 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(3)))
    paper = 200 + grey * (44 / 255) - thick.astype(np.float32) * 0.78
    small = paper.reshape(paper.shape[0] // 2, 2, -1, 2).mean((1, 3))
    return np.clip(small[..., None] + np.array([4, 2, -6]), 0, 255).astype(np.uint8)


def mosaic(picture: Image.Image, labels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Square stones of one colour each, with dark joints."""
    noise = np.random.default_rng(rng.getrandbits(32))
    stones = _blocks(picture, 2 * TILE) + noise.normal(0, 7, (picture.height // (2 * TILE),) * 2 + (1,))
    out = stones.repeat(TILE, 0).repeat(TILE, 1)
    out[TILE - 1::TILE] = out[TILE - 1::TILE] * 0.6 + 20
    out[:, TILE - 1::TILE] = out[:, TILE - 1::TILE] * 0.6 + 20
    return np.clip(out, 0, 255).astype(np.uint8)


def silhouette(picture: Image.Image, labels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Things in near black against their place in warm evening light."""
    back = np.asarray(picture, np.float32) * 0.5 + np.array([118, 96, 74], np.float32)
    back[labels > 0] = (20, 18, 26)
    return _halved(back)


def pixel_art(picture: Image.Image, labels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Large squares in few colours."""
    squares = np.clip((_blocks(picture, 2 * PIXEL) / 42.5).round() * 42.5, 0, 255)
    return squares.repeat(PIXEL, 0).repeat(PIXEL, 1).astype(np.uint8)


def watercolour(picture: Image.Image, labels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Pale, soft at the edges, with washes lighter and darker."""
    noise = np.random.default_rng(rng.getrandbits(32))
    small = picture.reduce(2)
    soft = np.asarray(small.filter(ImageFilter.GaussianBlur(0.9)), np.float32)
    wash = Image.fromarray(noise.normal(0, 1, (7, 7)).astype(np.float32)).resize(small.size, Image.Resampling.BICUBIC)
    rim = np.clip(np.abs(np.asarray(small, np.float32) - soft).mean(-1, keepdims=True), 0, 40)
    out = 255 - (255 - soft) * (0.76 + 0.11 * np.asarray(wash)[..., None]) - rim
    return np.clip(out, 0, 255).astype(np.uint8)


def _blocks(picture: Image.Image, side: int) -> np.ndarray:
    """Means of square blocks of the canvas, (n, n, 3) float32."""
    return np.asarray(picture.reduce(side), np.float32)


def _halved(canvas: np.ndarray) -> np.ndarray:
    n = canvas.shape[0] // 2
    return canvas.reshape(n, 2, n, 2, 3).mean((1, 3)).astype(np.uint8)


STYLE_RENDERERS: Final[dict[str, Callable[[Image.Image, np.ndarray, random.Random], np.ndarray]]] = {
    "pencil": pencil, "mosaic": mosaic, "silhouette": silhouette, "pixel art": pixel_art, "watercolour": watercolour,
}
