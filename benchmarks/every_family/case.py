"""What a family's tiny network is made of, and the texts that its encoders give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy import supported_models_base
from torch import Tensor

WIDTH = 64
"""Of every text encoder's rows."""
SD3_WIDTH = 4096
"""SD3's text encoder pads CLIP's rows to this width, T5's: stock code, so a small T5 pads its own."""
CHUNKS = (77, 154)
"""Tokens of a short and a long prompt in CLIP, which reads them in pieces of 77."""
ANY_LENGTH = (20, 13)
"""Tokens of two prompts in encoders that do not pad."""

Entry = tuple[Tensor, dict[str, Any]]
"""One entry of a CONDITIONING: the context (1, T, D), and what stands beside it."""
Text = Callable[[int, int], Entry]
"""A seed and a number of tokens to what the family's encoders would give for such a prompt."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    """N(0, 1) of the seed's own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mask(length: int, content: int) -> Tensor:
    """An attention mask (1, T): 1 for content, 0 for the padding behind it."""
    return (torch.arange(length) < content).long()[None]


def text(width: int = WIDTH, *, pooled: int | None = None, padding: int | None = None) -> Text:
    """Texts of one context.

    Args:
        width: of its rows.
        pooled: width of the pooled output; None = there is none.
        padding: how many of the tokens an attention mask hides; None = there is no mask.
    """
    def make(seed: int, length: int) -> Entry:
        beside: dict[str, Any] = {"pooled_output": None if pooled is None else noise(1, pooled, seed=seed + 1000)}
        if padding is not None:
            beside["attention_mask"] = mask(length, length - padding)
        return noise(1, length, width, seed=seed), beside

    return make


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family: its network, reduced in depth and width, and what goes into it.

    Attributes:
        title: what its users call it.
        config: ComfyUI's class of the family.
        network: the network's settings, as ComfyUI's detection gives them.
        text: what its encoders give.
        latent: shape of one picture's latents as its VAE gives them: (C, h, w), or (C, 1, h, w) with a frame.
        lengths: tokens of two prompts of one batch; alike where every prompt has as many.
        markers: tensors in the file by which ComfyUI knows what the network predicts.
        has_reference: whether its conditioning holds a reference picture's latents.
        has_picture: whether it holds a picture for the channels beside the noise.
        clip: tokenizers and encoders, of `clips.py`; None where ComfyUI has none without a file.
    """

    title: str
    config: Any
    network: Mapping[str, Any]
    text: Text
    latent: tuple[int, ...]
    lengths: tuple[int, int]
    markers: Mapping[str, Tensor] = field(default_factory=dict)
    has_reference: bool = False
    has_picture: bool = False
    clip: str | None = None

    def entry(self, seed: int, length: int) -> Entry:
        """The conditioning of a prompt; with a reference picture where the family reads one, in the way it reads it."""
        context, beside = self.text(seed, length)
        if self.has_reference:
            beside = beside | {"reference_latents": [0.5 * noise(1, *self.latent, seed=99)]}
        if self.has_picture:
            beside = beside | {"concat_latent_image": 0.5 * noise(1, *self.latent, seed=99)}
        return context, beside


def stock_class(config: type[supported_models_base.BASE], **forced: Any) -> type[supported_models_base.BASE]:
    """ComfyUI's class with other forced sizes, where it forces the published ones."""
    return type(config.__name__, (config,), {"unet_extra_config": forced})
