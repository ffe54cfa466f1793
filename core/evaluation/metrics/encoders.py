"""Pictures to unit vectors: what CLIP-I, DINO, drift and KID look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ...errors import require
from ...model.image_text import Preparation, unit
from ...model_folders import path_of, read_config, reading

Pictures = Tensor | Sequence[Tensor]
"""Pictures with values in 0..1: one tensor (N, 3, H, W), or a list of (H, W, 3) of any sizes."""


class ImageEncoder(Protocol):
    """Anything that gives pictures unit vectors: a CLIP, or a DINO."""

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, 3) in 0..1 -> (N, P) unit vectors."""
        ...


def embed_each(encoder: ImageEncoder, pictures: Pictures) -> Tensor:
    """(N, P) for pictures of any sizes; those of one size go through together."""
    rows = list(pictures.movedim(1, -1)) if isinstance(pictures, Tensor) else list(pictures)
    if not rows:
        return torch.zeros(0, 1)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, picture in enumerate(rows):
        by_shape.setdefault(tuple(picture.shape), []).append(i)
    found: dict[int, Tensor] = {}
    for indices in by_shape.values():
        embedded = encoder.embed_images(torch.stack([rows[i] for i in indices])).cpu()
        found |= zip(indices, embedded, strict=True)
    return torch.stack([found[i] for i in range(len(rows))])


class TransformersImageEncoder:
    """An image encoder in transformers' folder format, such as DINO or DINOv2: the class token of the last layer."""

    KINDS = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")

    def __init__(self, model: Any, prepare: Preparation):
        self.model, self.prepare = model, prepare

    @torch.no_grad()
    def embed_images(self, pixels: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        outputs = self.model(pixel_values=self.prepare(pixels).to(parameter.device, parameter.dtype))
        return unit(outputs.last_hidden_state[:, 0])


def load_image_encoder(folder: str | Path, device: str | torch.device = "cpu",
                       name: str = "dino_path") -> TransformersImageEncoder:
    """The DINO of a transformers folder, in float32; nothing is downloaded.

    Args:
        name: the widget that holds the path.

    Raises:
        InputError: for a folder that is missing or holds something else.
    """
    place = path_of(folder, name)
    config = read_config(place, name)
    kind = config.get("model_type")
    require(kind in TransformersImageEncoder.KINDS, name, f"a model of type {kind!r} in {place.name}",
            f"one of {', '.join(TransformersImageEncoder.KINDS)}", "Choose the folder of a DINO, e.g. dino-vits16.")
    from transformers import AutoModel

    with torch.inference_mode(False), reading(name, place.name, "a whole transformers folder"):
        model = AutoModel.from_pretrained(str(place), local_files_only=True, dtype=torch.float32)
        model = model.to(device).eval().requires_grad_(False)
        return TransformersImageEncoder(model, Preparation.of_folder(place, int(config.get("image_size", 224))))
