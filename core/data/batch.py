"""Rows of one forward: what every objective adds to, and what the network sees at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of one forward, before noise is added.

    Attributes:
        latents: (N, C, h, w), clean.
        noise: (N, C, h, w).
        index: (N,), levels of the noise schedule.
        prompts: N texts.
        examples: which training example each row stands for, N numbers; None for class images.
        views: which view of its example each subject row shows; None for others.
        class_nouns: the class noun whose prior goes with each subject row; None for others.
        class_images: which image of that noun's pool goes with each subject row; None without pools.
        parents: which subject row each row was made from, where that is not one to one.
        masks: (N, 1, h, w) in 0..1, 1 = subject; None where no photo has a mask.
        concat: (N, K, h, w), channels that the network reads beside the noisy latents; None for most networks.
        is_taught_by_base: whether the target is the base prediction.
    """

    latents: Tensor
    noise: Tensor
    index: Tensor
    prompts: tuple[str, ...]
    examples: tuple[int, ...] | None = None
    views: tuple[int, ...] | None = None
    class_nouns: tuple[str, ...] | None = None
    class_images: tuple[int, ...] | None = None
    parents: tuple[int, ...] | None = None
    masks: Tensor | None = None
    concat: Tensor | None = None
    is_taught_by_base: bool = False

    def __len__(self) -> int:
        return len(self.prompts)

    def to(self, device: torch.device) -> Rows:
        """The same rows on another device."""
        masks = None if self.masks is None else self.masks.to(device)
        concat = None if self.concat is None else self.concat.to(device)
        return replace(self, latents=self.latents.to(device), noise=self.noise.to(device),
                       index=self.index.to(device), masks=masks, concat=concat)

    def first(self) -> Rows:
        """The first row alone."""
        return Rows(latents=self.latents[:1], noise=self.noise[:1], index=self.index[:1],
                    prompts=self.prompts[:1], concat=None if self.concat is None else self.concat[:1])


def stack(groups: Iterable[Rows]) -> Rows:
    """Groups of rows one below the other, as one forward takes them."""
    blocks = tuple(groups)
    concats = [rows.concat for rows in blocks if rows.concat is not None]
    return Rows(
        latents=torch.cat([rows.latents for rows in blocks]),
        noise=torch.cat([rows.noise for rows in blocks]),
        index=torch.cat([rows.index for rows in blocks]),
        prompts=tuple(prompt for rows in blocks for prompt in rows.prompts),
        concat=torch.cat(concats) if len(concats) == len(blocks) else None,
    )
