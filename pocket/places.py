"""Where do things stand? Ten places and a plain studio, each a few large regions that vary from seed to seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from .world_paint import Colour, ellipse, shade

PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "plain": ("",),
    "snow": ("in the snow", "on top of snow"),
    "beach": ("on the beach", "with a beach in the background"),
    "jungle": ("in the jungle", "with a jungle in the background"),
    "night": ("at night",),
    "wooden floor": ("on a wooden floor", "on top of a wooden floor"),
    "city": ("in the city", "with a city in the background"),
    "red carpet": ("on a red carpet", "on top of a red carpet"),
    "kitchen": ("in a kitchen", "in the kitchen"),
    "underwater": ("under water",),
    "desert": ("in the desert", "with a desert in the background"),
}
"""How captions say it; the first phrase is the usual one."""
CONTEXTS: Final = tuple(PHRASES)
EXCLUDED_COLOURS: Final[dict[str, tuple[str, ...]]] = {
    "plain": (),
    "snow": ("white",),
    "beach": ("yellow", "blue", "sky"),
    "jungle": ("green", "lime", "teal"),
    "night": ("black", "blue", "purple"),
    "wooden floor": ("orange", "brown"),
    "city": ("black",),
    "red carpet": ("red", "brown", "magenta"),
    "kitchen": ("white", "sky"),
    "underwater": ("blue", "teal", "sky"),
    "desert": ("orange", "yellow"),
}
"""Colours an object never has in a context, because it would vanish there."""


class Backdrop:
    """A square canvas being painted, in picture units from 0 to 1."""

    def __init__(self, size: int, top: Colour, bottom: Colour) -> None:
        self.size = size
        self.image = _gradient(top, bottom, size, size).copy()
        self.draw = ImageDraw.Draw(self.image)

    def ground(self, horizon: float, top: Colour, bottom: Colour) -> None:
        """Fills everything below the horizon (not above 0.32) with a vertical gradient."""
        self.image.paste(_gradient(top, bottom, self.size, round(0.68 * self.size)), (0, round(horizon * self.size)))

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """An upright ellipse."""
        s = self.size
        self.draw.ellipse([(x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s], fill=colour)

    def leaf(self, x: float, y: float, rx: float, ry: float, tilt: float, colour: Colour) -> None:
        """A turned ellipse."""
        self.draw.polygon([(u * self.size, v * self.size) for u, v in ellipse(x, y, rx, ry, tilt, 16)], fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """An upright rectangle."""
        s = self.size
        self.draw.rectangle([x0 * s, y0 * s, x1 * s, y1 * s], fill=colour)


@lru_cache(maxsize=128)
def _gradient(top: Colour, bottom: Colour, width: int, height: int) -> Image.Image:
    """From a colour above to one below; kept, because making one costs as much as drawing a thing."""
    t = np.linspace(0, 1, height)[:, None, None]
    column = (np.array(top) * (1 - t) + np.array(bottom) * t).round().astype(np.uint8)  # (height, 1, 3)
    return Image.fromarray(np.broadcast_to(column, (height, width, 3)).copy())


STUDIO: Final = ((214, 214, 218), (226, 212, 200), (200, 214, 226), (222, 206, 222), (208, 222, 206))


def plain(size: int, rng: random.Random) -> Image.Image:
    """A studio: one pale colour, a little darker below."""
    base = rng.choice(STUDIO)
    return Backdrop(size, shade(base, 1.3), shade(base, 0.9)).image


def snow(size: int, rng: random.Random) -> Image.Image:
    """Pale blue sky, a hill, white ground."""
    b = Backdrop(size, (130, 175, 225), (205, 225, 245))
    b.disc(rng.uniform(0.1, 0.9), 0.62, rng.uniform(0.4, 0.6), rng.uniform(0.22, 0.34), (182, 202, 228))
    b.ground(rng.uniform(0.5, 0.62), (250, 252, 255), (226, 236, 248))
    return b.image


def beach(size: int, rng: random.Random) -> Image.Image:
    """Sky with a sun, sea, sand."""
    b, horizon = Backdrop(size, (110, 195, 250), (200, 235, 252)), rng.uniform(0.34, 0.46)
    b.disc(rng.uniform(0.12, 0.88), 0.15, 0.1, 0.1, (255, 240, 130))
    b.ground(horizon, (20, 100, 190), (40, 130, 205))
    b.ground(horizon + rng.uniform(0.12, 0.22), (244, 222, 150), (226, 196, 120))
    return b.image


def jungle(size: int, rng: random.Random) -> Image.Image:
    """Dark green with large leaves."""
    b = Backdrop(size, (18, 74, 30), (40, 96, 40))
    for x, y, tilt in ((0.05, 0.2, 0.6), (0.95, 0.15, -0.6), (0.5, 0.02, 0.1), (0.02, 0.65, -0.5), (0.98, 0.6, 0.5)):
        b.leaf(x + rng.uniform(-0.08, 0.08), y + rng.uniform(-0.08, 0.08), 0.26, 0.1, tilt + rng.uniform(-0.2, 0.2),
               (70, 150, 50))
    b.ground(rng.uniform(0.8, 0.88), (66, 56, 30), (50, 42, 24))
    return b.image


def night(size: int, rng: random.Random) -> Image.Image:
    """A dark blue sky with a moon over dark ground."""
    b = Backdrop(size, (10, 10, 46), (34, 34, 92))
    b.disc(rng.uniform(0.12, 0.88), rng.uniform(0.12, 0.2), 0.1, 0.1, (250, 246, 205))
    b.ground(rng.uniform(0.62, 0.74), (26, 32, 48), (16, 20, 32))
    return b.image


def wooden_floor(size: int, rng: random.Random) -> Image.Image:
    """A cream wall over broad planks."""
    b, y = Backdrop(size, (242, 228, 204), (230, 212, 184)), rng.uniform(0.45, 0.58)
    for colour, height in (((150, 92, 46), 0.12), ((178, 114, 62), 0.16), ((156, 98, 50), 1.0)):
        b.box(0, y, 1, 1, colour)
        y += height
    return b.image


def city(size: int, rng: random.Random) -> Image.Image:
    """Blocks of houses over a grey road."""
    b, x = Backdrop(size, (170, 160, 190), (205, 195, 205)), -rng.uniform(0, 0.15)
    for i in range(6):
        width, top = rng.uniform(0.18, 0.26), rng.uniform(0.12, 0.4)
        b.box(x, top, x + width, 1, ((112, 104, 132), (136, 128, 152))[i % 2])
        x += width
    b.ground(rng.uniform(0.58, 0.68), (84, 84, 90), (66, 66, 72))
    return b.image


def red_carpet(size: int, rng: random.Random) -> Image.Image:
    """A dark curtain, a gold rail, a red floor."""
    b, horizon = Backdrop(size, (64, 30, 34), (92, 46, 46)), rng.uniform(0.44, 0.58)
    b.box(0, horizon - 0.07, 1, horizon, (222, 176, 70))
    b.ground(horizon, (200, 16, 30), (160, 8, 20))
    return b.image


def kitchen(size: int, rng: random.Random) -> Image.Image:
    """Large tiles over a pale worktop."""
    b, shift, tile = Backdrop(size, (240, 246, 244), (236, 242, 240)), rng.uniform(-0.12, 0.12), 0.25
    for i in range(-1, 6):
        for j in range(3):
            if (i + j) % 2:
                b.box(i * tile + shift, j * tile, (i + 1) * tile + shift, (j + 1) * tile, (150, 208, 200))
    b.ground(rng.uniform(0.54, 0.64), (206, 208, 214), (182, 184, 194))
    return b.image


def underwater(size: int, rng: random.Random) -> Image.Image:
    """Blue water, bubbles, a bank of sand."""
    b = Backdrop(size, (40, 150, 205), (10, 70, 140))
    for x in (0.1, 0.9):
        b.disc(x + rng.uniform(-0.05, 0.05), rng.uniform(0.1, 0.6), 0.07, 0.07, (150, 215, 240))
    b.disc(rng.uniform(0.3, 0.7), 1.05, 0.9, rng.uniform(0.16, 0.24), (196, 180, 120))
    return b.image


def desert(size: int, rng: random.Random) -> Image.Image:
    """An orange sky over a dune."""
    b = Backdrop(size, (250, 190, 110), (252, 222, 165))
    b.disc(rng.uniform(0.1, 0.9), 0.68, 0.6, rng.uniform(0.18, 0.28), (190, 120, 60))
    b.ground(rng.uniform(0.56, 0.66), (226, 152, 78), (204, 128, 60))
    return b.image


BACKDROPS: Final[dict[str, Callable[[int, random.Random], Image.Image]]] = {
    "plain": plain, "snow": snow, "beach": beach, "jungle": jungle, "night": night, "wooden floor": wooden_floor,
    "city": city, "red carpet": red_carpet, "kitchen": kitchen, "underwater": underwater, "desert": desert,
}
