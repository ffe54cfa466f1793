"""Rows of one forward: what every objective adds to, and what the network sees at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from .examples import References


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of one forward, before noise is added.

    Attributes:
        latents: (N, C, h, w), clean.
        noise: (N, C, h, w).
        index: (N,), levels of the noise schedule.
        prompts: N texts.
        concat: (N, K, h, w), channels that the network reads beside the noisy latents; None for most networks.
        references: what an edit model is shown beside each row, None for a row without; empty where no row has any.
        is_taught_by_base: whether the target is the base prediction.
    """

    latents: Tensor
    noise: Tensor
    index: Tensor
    prompts: tuple[str, ...]
    concat: Tensor | None = None
    references: tuple[References | None, ...] = ()
    is_taught_by_base: bool = False

    def __len__(self) -> int:
        return len(self.prompts)

    def to(self, device: torch.device) -> Self:
        """The same rows on another device."""
        return replace(self, latents=self.latents.to(device), noise=self.noise.to(device),
                       index=self.index.to(device), concat=None if self.concat is None else self.concat.to(device))

    def first(self) -> Rows:
        """The first row alone."""
        return Rows(latents=self.latents[:1], noise=self.noise[:1], index=self.index[:1],
                    prompts=self.prompts[:1], concat=None if self.concat is None else self.concat[:1],
                    references=self.references[:1])


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectRows(Rows):
    """Rows of the subject's photos, which objectives make theirs of.

    Attributes:
        examples: which training example each row shows, N numbers.
        views: which view of its example.
        class_nouns: the class noun whose prior goes with each row.
        class_images: which image of that noun's pool goes with each row; empty without pools.
        masks: (N, 1, h, w) in 0..1, 1 = subject, by the pixels that they were grown by; empty where a photo has none.
    """

    examples: tuple[int, ...]
    views: tuple[int, ...]
    class_nouns: tuple[str, ...]
    class_images: tuple[int, ...]
    masks: Mapping[int, Tensor]

    def to(self, device: torch.device) -> Self:
        masks = {dilation: mask.to(device) for dilation, mask in self.masks.items()}
        return replace(super().to(device), masks=masks)


def stack(groups: Iterable[Rows]) -> Rows:
    """Groups of rows one below the other, as one forward takes them."""
    blocks = tuple(groups)
    references = tuple(one for rows in blocks for one in rows.references or (None,) * len(rows))
    concats = [rows.concat for rows in blocks if rows.concat is not None]
    return Rows(
        latents=torch.cat([rows.latents for rows in blocks]),
        noise=torch.cat([rows.noise for rows in blocks]),
        index=torch.cat([rows.index for rows in blocks]),
        prompts=tuple(prompt for rows in blocks for prompt in rows.prompts),
        concat=torch.cat(concats) if len(concats) == len(blocks) else None,
        references=references if any(references) else (),
    )
