"""What do generic pictures look like, to the second order? Procedural textures for the autoencoder.

Natural pictures have 1/f amplitude spectra and occlusion edges at every scale; both can be drawn from numbers.
No photo is used in training: `../shared/photos` is the held-out check.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .world_paint import ellipse


def falling_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Natural-looking colours, (count, 3) in [0, 255]: broad brightness, weak and correlated chroma."""
    grey = rng.beta(1.2, 1.2, (count, 1)) * 255
    return np.clip(grey + rng.normal(0, 1, (count, 3)) * rng.choice([8, 30, 60], (count, 1)), 0, 255)


def power_law_noise(rng: np.random.Generator, size: int, exponent: float) -> np.ndarray:
    """Colour noise with amplitude 1 / f^exponent, (size, size, 3) of unit deviation per channel.

    Source: Field 1987, relations between the statistics of natural images (amplitude falls as 1/f).
    """
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    f[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.normal(size=(3, size, size))) / f**exponent
    noise = np.fft.ifft2(spectrum).real
    noise = (noise - noise.mean((1, 2), keepdims=True)) / noise.std((1, 2), keepdims=True)
    mix = np.full((3, 3), 0.55) + np.eye(3) * 0.45 + rng.normal(0, 0.08, (3, 3))  # channels mostly agree
    return np.einsum("ij,jhw->hwi", mix, noise)


def dead_leaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Overlapping random leaves with sizes of density 1 / r^3, (size, size, 3) in [0, 255].

    Source: Lee, Mumford, Huang 2001, occlusion models for natural images (scale-invariant dead leaves).
    """
    image = Image.new("RGB", (size * 2, size * 2), tuple(falling_colours(rng, 1)[0].astype(int)))
    draw = ImageDraw.Draw(image)
    count = int(rng.integers(30, 120))
    radii = np.clip(4 / np.sqrt(rng.uniform(0.003, 1, count)), 4, size) * rng.uniform(0.8, 2)
    for r, colour in zip(radii, falling_colours(rng, count).astype(int), strict=True):
        x, y = rng.uniform(0, size * 2, 2)
        n = int(rng.choice([3, 4, 5, 16]))
        draw.polygon(ellipse(x, y, r, r * rng.uniform(0.3, 1), rng.uniform(0, 3.2), n), fill=tuple(colour))
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)).astype(np.float64)


def texture(seed: int, size: int) -> np.ndarray:
    """One generic picture of a seed, (size, size, 3) uint8: leaves, noise, or leaves with noise and soft light."""
    rng = np.random.default_rng(seed)
    light = power_law_noise(rng, size, 2.0) * rng.uniform(5, 40)
    grain = power_law_noise(rng, size, rng.uniform(0.9, 1.6)) * rng.uniform(3, 40)
    kind = rng.random()
    if kind < 0.25:
        picture = falling_colours(rng, 1)[0] + light + grain
    else:
        picture = dead_leaves(rng, size) + light + grain * 0.4 * (kind < 0.75)
    if rng.random() < 0.5:  # photos are softer than drawings
        image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
        small = image.resize((max(8, int(size * rng.uniform(0.3, 0.8))),) * 2, Image.Resampling.BOX)
        return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
    return np.clip(picture, 0, 255).astype(np.uint8)
