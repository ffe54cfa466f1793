"""Class images for prior preservation: samples of the frozen model for 'a {noun}', kept on disk one by one.

Image i depends on the recipe and i alone, so that a stopped generation goes on where it was, and asking for
more keeps what is there. To the last bit it depends on the size of its batch, too, which is part of the recipe: whole
batches are sampled, also where one was stopped between two saves, and at the end.

Source: DreamBooth (arXiv:2208.12242), 3.3.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, require
from .files import StorageError, canonical_json, make_folder, read_tensors, write_bytes, write_tensors
from .metadata import CLASS_IMAGE, check
from .temporary import sweep

RECIPE = "recipe.json"
PER_FOLDER = 100_000
"""Images of one recipe are numbered with five digits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassImages:
    """One pool of class images.

    Attributes:
        class_noun: the subjects with this noun train against this pool.
        prompt: 'a {noun}'.
        latents: (n, C, h, w) float32, as a LATENT holds them (before the model's process_latent_in).
        key: digest of everything that the latents depend on, their number included.
        size: width and height in pixels.
        captions: one for each image, where they have their own; empty = `prompt` for all.
        unsaved: why new images are not on disk; empty where they are.
    """

    class_noun: str
    prompt: str
    latents: Tensor
    key: str
    size: int
    captions: tuple[str, ...] = ()
    unsaved: str = ""


@dataclass(frozen=True, kw_only=True)
class PriorRecipe:
    """Everything that class image i depends on, apart from i.

    Attributes:
        model: digest of the MODEL: weights and what other nodes patched.
        text_encoder: digest of the CLIP.
        size: width and height in pixels.
        batch: images that are sampled at once; None where each is the same in any batch, and in pools of versions that
            did not keep it.
    """

    model: str
    text_encoder: str
    prompt: str
    size: int
    sampler: str
    scheduler: str
    steps: int
    cfg: float
    seed: int
    batch: int | None = None

    def __post_init__(self) -> None:
        require(self.batch is None or self.batch >= 1, "batch", self.batch, "1 or more images at a time",
                "Use for example 4.")
        require(self.steps >= 1, "steps", self.steps, "1 or more sampling steps", "Use for example 20.")
        require(
            self.size >= 64 and self.size % 8 == 0,
            "size",
            self.size,
            "64 pixels or more, a multiple of 8",
            f"Use {max(64, self.size // 8 * 8)}.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the cache's recipe file holds them."""
        return {name: value for name, value in asdict(self).items() if name != "batch" or value is not None}

    @property
    def key(self) -> str:
        """Digest that names the folder of these images."""
        return hashlib.blake2b(canonical_json(self.to_dict()).encode(), digest_size=20).hexdigest()


class PriorCache:
    """Class images on disk: `<root>/<key>/00017.safetensors`, each written whole or not at all.

    Args:
        root: the folder of all recipes; made when the first image is saved.
    """

    def __init__(self, root: Path):
        self.root = root

    def has(self, recipe: PriorRecipe, index: int) -> bool:
        """Whether there is a file of image `index`."""
        return self._path(recipe, index).exists()

    def knows(self, recipe: PriorRecipe) -> bool:
        """Whether images of the recipe were kept."""
        return (self.root / recipe.key / RECIPE).exists()

    def load(self, recipe: PriorRecipe, index: int) -> Tensor | None:
        """(C, h, w) of image `index`, or None where it is missing or its file is broken."""
        path = self._path(recipe, index)
        if not path.exists():
            return None
        try:
            tensors, metadata = read_tensors(path)
            check(path, metadata, CLASS_IMAGE)
        except InputError as reason:
            logging.warning("%s The class image is made again.", reason)
            return None
        latents = tensors.get("latents")
        if metadata["class_image"] != index or latents is None or latents.ndim != 3 or latents.dtype != torch.float32:
            logging.warning("%s is not class image %d, which is made again.", path, index)
            return None
        return latents

    def save(self, recipe: PriorRecipe, index: int, latents: Tensor) -> None:
        """Keep image `index`, (C, h, w).

        Raises:
            StorageError: when the disk is full or not writable.
        """
        path = self._path(recipe, index)
        sweep(path.parent)
        if not (path.parent / RECIPE).exists():
            make_folder(path.parent)
            write_bytes(path.parent / RECIPE, canonical_json(recipe.to_dict()).encode())
        write_tensors(path, {"latents": latents.detach().cpu().float()}, {"class_image": index})

    def _path(self, recipe: PriorRecipe, index: int) -> Path:
        return self.root / recipe.key / f"{index:05d}.safetensors"


def kept_recipe(cache: PriorCache, recipe: PriorRecipe) -> PriorRecipe:
    """The recipe itself, or the same without a batch where a version that did not keep it has made images: runs that
    learned from them are found again."""
    old = replace(recipe, batch=None)
    return old if cache.knows(old) else recipe


def count_to_sample(cache: PriorCache, recipe: PriorRecipe, count: int) -> int:
    """How many images `class_images` will sample for images 0 .. count - 1, unless a file is broken."""
    kept = kept_recipe(cache, recipe)
    missing = [index for index in range(count) if not cache.has(kept, index)]
    return sum(map(len, _whole_batches(missing, recipe.batch or 1)))


def class_images(
    cache: PriorCache,
    recipe: PriorRecipe,
    *,
    class_noun: str,
    count: int,
    sample: Callable[[Sequence[int]], Tensor],
) -> ClassImages:
    """Images 0 .. count - 1 of a recipe, from the cache or, a whole batch at a time, from `sample`.

    Whatever ends `sample` early (also a cancel), what was saved is kept, and the rest is the same to the bit. A disk
    that takes no image ends nothing: the pool is used all the same, and says so.

    Args:
        sample: indices -> (len(indices), C, h, w), the last batch going beyond `count`; not called when nothing is
            missing.
    """
    require(
        1 <= count <= PER_FOLDER, "count", count, f"1 to {PER_FOLDER} class images", "Use for example 200."
    )
    kept = kept_recipe(cache, recipe)
    found = {index: cache.load(kept, index) for index in range(count)}
    missing = [index for index, latents in found.items() if latents is None]
    unsaved = ""
    for indices in _whole_batches(missing, recipe.batch or 1):
        for index, latents in zip(indices, sample(indices), strict=True):
            require(
                bool(latents.isfinite().all()),
                "model",
                f"NaN in class image {index}",
                "finite latents",
                "Lower cfg, or start ComfyUI with --force-fp32.",
            )
            if index in missing or not cache.has(kept, index):
                try:
                    cache.save(kept, index, latents)
                except StorageError as reason:
                    unsaved = f"{reason.reason.strerror or reason.reason} at {reason.path.parent}"
            if index in missing:
                found[index] = latents.detach().cpu().float()
    rows = [latents for _, latents in sorted(found.items()) if latents is not None]
    _check_shapes(cache.root / kept.key, rows)
    return ClassImages(
        class_noun=class_noun,
        prompt=recipe.prompt,
        latents=torch.stack(rows).clone(),
        key=f"{kept.key}-{count}",
        size=recipe.size,
        unsaved=unsaved,
    )


def _check_shapes(folder: Path, rows: Sequence[Tensor]) -> None:
    """Raise `InputError` for an image of another shape than most have: its file is whole, and of something else."""
    usual, _ = Counter(tuple(row.shape) for row in rows).most_common(1)[0]
    for index, row in enumerate(rows):
        require(tuple(row.shape) == usual, "file", f"{folder / f'{index:05d}.safetensors'}: shape {tuple(row.shape)}",
                f"{usual}, as the other class images have", "Remove that file; the image is made again.")


def _whole_batches(missing: Sequence[int], batch: int) -> list[list[int]]:
    """The batches that hold missing images; batch k holds images k B .. (k + 1) B - 1."""
    numbers = dict.fromkeys(index // batch for index in missing)
    return [list(range(number * batch, (number + 1) * batch)) for number in numbers]


def check_noun_is_new(upstream: Sequence[ClassImages], class_noun: str) -> None:
    """One pool per noun.

    Raises:
        InputError: when a pool of this noun is in the chain already.
    """
    noun = " ".join(class_noun.casefold().split())
    taken = [" ".join(other.class_noun.casefold().split()) for other in upstream]
    require(
        noun not in taken,
        "class_noun",
        f"'{class_noun}' twice in one chain",
        "another noun in each pool",
        "Remove one of the two nodes: one has all images of a noun, and own and generated ones are not mixed.",
    )
