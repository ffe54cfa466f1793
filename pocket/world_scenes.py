"""Where does an object stand? Ten contexts and a plain one, each a few large regions.

Thin clutter (stars, bricks, hair lines) is left out on purpose: it costs the autoencoder decibels and the
generator capacity, and tells nothing that the large regions do not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from .world_paint import Colour, Polygon, ellipse, shade

Draw = ImageDraw.ImageDraw

PHRASES: Final[dict[str, str]] = {
    "plain": "",
    "snow": "in the snow",
    "beach": "on the beach",
    "jungle": "in the jungle",
    "night": "at night",
    "wooden floor": "on a wooden floor",
    "city": "in the city",
    "red carpet": "on a red carpet",
    "kitchen": "in a kitchen",
    "underwater": "under water",
    "desert": "in the desert",
}
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


def vertical_gradient(size: int, top: Colour, bottom: Colour) -> Image.Image:
    """A canvas that goes from one colour above to another below."""
    t = np.linspace(0, 1, size)[:, None]
    rows = np.array(top) * (1 - t) + np.array(bottom) * t  # (size, 3)
    return Image.fromarray(np.broadcast_to(rows[:, None].round().astype(np.uint8), (size, size, 3)).copy())


def scaled(size: int, polygon: Polygon) -> Polygon:
    """Picture units (0 to 1) to canvas pixels."""
    return [(x * size, y * size) for x, y in polygon]


def ground(image: Image.Image, horizon: float, top: Colour, bottom: Colour) -> None:
    """Fills everything below the horizon with a vertical gradient."""
    size, y = image.width, round(horizon * image.width)
    image.paste(vertical_gradient(size - y, top, bottom).resize((size, size - y)), (0, y))


def plain(size: int, rng: random.Random) -> Image.Image:
    """A studio: one pale colour, a little darker below."""
    base = rng.choice([(214, 214, 218), (226, 212, 200), (200, 214, 226), (222, 206, 222), (208, 222, 206)])
    return vertical_gradient(size, shade(base, 1.3), shade(base, 0.9))


def snow(size: int, rng: random.Random) -> Image.Image:
    """Pale blue sky, a hill, white ground."""
    image = vertical_gradient(size, (130, 175, 225), (205, 225, 245))
    hill = ellipse(rng.uniform(0.1, 0.9), 0.62, 0.55, 0.3)
    ImageDraw.Draw(image).polygon(scaled(size, hill), fill=(182, 202, 228))
    ground(image, 0.56 + rng.uniform(-0.04, 0.04), (250, 252, 255), (226, 236, 248))
    return image


def beach(size: int, rng: random.Random) -> Image.Image:
    """Sky with a sun, sea, sand."""
    image = vertical_gradient(size, (110, 195, 250), (200, 235, 252))
    horizon = 0.4 + rng.uniform(-0.04, 0.04)
    sun = ellipse(rng.choice([0.16, 0.84]), 0.16, 0.1, 0.1)
    ImageDraw.Draw(image).polygon(scaled(size, sun), fill=(255, 240, 130))
    ground(image, horizon, (20, 100, 190), (40, 130, 205))
    ground(image, horizon + 0.2, (244, 222, 150), (226, 196, 120))
    return image


def jungle(size: int, rng: random.Random) -> Image.Image:
    """Dark green with large leaves."""
    image = vertical_gradient(size, (18, 74, 30), (40, 96, 40))
    draw = ImageDraw.Draw(image)
    for x, y, tilt in ((0.05, 0.2, 0.6), (0.95, 0.15, -0.6), (0.5, 0.02, 0.1), (0.02, 0.7, -0.5), (0.98, 0.65, 0.5)):
        leaf = ellipse(x + rng.uniform(-0.05, 0.05), y + rng.uniform(-0.05, 0.05), 0.26, 0.1, tilt)
        draw.polygon(scaled(size, leaf), fill=(70, 150, 50))
    ground(image, 0.86, (66, 56, 30), (50, 42, 24))
    return image


def night(size: int, rng: random.Random) -> Image.Image:
    """A dark blue sky with a moon over dark ground."""
    image = vertical_gradient(size, (10, 10, 46), (34, 34, 92))
    moon = ellipse(rng.uniform(0.15, 0.85), 0.16, 0.1, 0.1)
    ImageDraw.Draw(image).polygon(scaled(size, moon), fill=(250, 246, 205))
    ground(image, 0.7 + rng.uniform(-0.04, 0.04), (26, 32, 48), (16, 20, 32))
    return image


def wooden_floor(size: int, rng: random.Random) -> Image.Image:
    """A cream wall over broad planks."""
    image = vertical_gradient(size, (242, 228, 204), (230, 212, 184))
    horizon = 0.5 + rng.uniform(-0.04, 0.04)
    draw = ImageDraw.Draw(image)
    edges = [horizon, horizon + 0.12, horizon + 0.28, 1.0]
    for colour, y0, y1 in zip([(150, 92, 46), (178, 114, 62), (156, 98, 50)], edges, edges[1:], strict=False):
        draw.rectangle([0, y0 * size, size, y1 * size], fill=colour)
    return image


def city(size: int, rng: random.Random) -> Image.Image:
    """Blocks of houses over a grey road."""
    image = vertical_gradient(size, (170, 160, 190), (205, 195, 205))
    draw = ImageDraw.Draw(image)
    x = -rng.uniform(0, 0.15)
    for i in range(6):
        width, top = rng.uniform(0.18, 0.26), rng.uniform(0.12, 0.4)
        draw.rectangle([x * size, top * size, (x + width) * size, size], fill=[(112, 104, 132), (136, 128, 152)][i % 2])
        x += width
    ground(image, 0.66 + rng.uniform(-0.03, 0.03), (84, 84, 90), (66, 66, 72))
    return image


def red_carpet(size: int, rng: random.Random) -> Image.Image:
    """A dark curtain, a gold rail, a red floor."""
    image = vertical_gradient(size, (64, 30, 34), (92, 46, 46))
    horizon = 0.5 + rng.uniform(-0.04, 0.04)
    ImageDraw.Draw(image).rectangle([0, (horizon - 0.07) * size, size, horizon * size], fill=(222, 176, 70))
    ground(image, horizon, (200, 16, 30), (160, 8, 20))
    return image


def kitchen(size: int, rng: random.Random) -> Image.Image:
    """Large tiles over a pale worktop."""
    image = Image.new("RGB", (size, size), (240, 246, 244))
    draw = ImageDraw.Draw(image)
    shift, tile = rng.uniform(-0.1, 0.1), 0.25
    for i in range(-1, 6):
        for j in range(3):
            if (i + j) % 2:
                x = (i * tile + shift) * size
                draw.rectangle([x, j * tile * size, x + tile * size, (j + 1) * tile * size], fill=(150, 208, 200))
    ground(image, 0.6 + rng.uniform(-0.04, 0.04), (206, 208, 214), (182, 184, 194))
    return image


def underwater(size: int, rng: random.Random) -> Image.Image:
    """Blue water, bubbles, a bank of sand."""
    image = vertical_gradient(size, (40, 150, 205), (10, 70, 140))
    draw = ImageDraw.Draw(image)
    for x in (0.1, 0.9):
        bubble = ellipse(x + rng.uniform(-0.05, 0.05), rng.uniform(0.1, 0.6), 0.07, 0.07)
        draw.polygon(scaled(size, bubble), fill=(150, 215, 240))
    draw.polygon(scaled(size, ellipse(rng.uniform(0.3, 0.7), 1.05, 0.9, 0.18)), fill=(196, 180, 120))
    return image


def desert(size: int, rng: random.Random) -> Image.Image:
    """An orange sky over a dune."""
    image = vertical_gradient(size, (250, 190, 110), (252, 222, 165))
    dune = ellipse(rng.uniform(0.1, 0.9), 0.68, 0.6, 0.24)
    ImageDraw.Draw(image).polygon(scaled(size, dune), fill=(190, 120, 60))
    ground(image, 0.62 + rng.uniform(-0.04, 0.04), (226, 152, 78), (204, 128, 60))
    return image


BACKDROPS: Final[dict[str, Callable[[int, random.Random], Image.Image]]] = {
    "plain": plain, "snow": snow, "beach": beach, "jungle": jungle, "night": night, "wooden floor": wooden_floor,
    "city": city, "red carpet": red_carpet, "kitchen": kitchen, "underwater": underwater, "desert": desert,
}
