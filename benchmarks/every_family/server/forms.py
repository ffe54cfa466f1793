"""In which files the users of a family have it, and which stock nodes load them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..case import SD3_WIDTH, WIDTH

TEXT_OF_ANIMA = 1024
"""Width of the text that Anima's network is built for: fixed in stock code."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A family as files.

    Attributes:
        has_checkpoint: network and VAE are one checkpoint; else a diffusion model and a VAE of their own.
        encoders: names of its text encoders, of `files.ENCODERS`.
        clip_type: `type` of CLIPLoader or DualCLIPLoader; None where the encoders are in the checkpoint, or three.
        vae: its kind, of `files.VAES`.
        latent: the stock node that makes its empty latents.
        network: settings that differ from those of the case of its name.
        rows: encoders whose rows are padded to a width that is fixed in stock code.
    """

    has_checkpoint: bool = False
    encoders: tuple[str, ...]
    clip_type: str | None = None
    vae: str
    latent: str
    network: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def loaders(self) -> tuple[str, ...]:
        """The stock nodes that load it."""
        models = ("CheckpointLoaderSimple",) if self.has_checkpoint else ("UNETLoader", "VAELoader")
        return models if self.has_encoders_inside else (*models, CLIP_LOADERS[len(self.encoders)])

    @property
    def has_encoders_inside(self) -> bool:
        """Whether the checkpoint has the text encoders, too."""
        return self.has_checkpoint and self.clip_type is None and len(self.encoders) < 3


CLIP_LOADERS = {1: "CLIPLoader", 2: "DualCLIPLoader", 3: "TripleCLIPLoader"}
FORMS = {
    "sdxl": Form(has_checkpoint=True, encoders=("clip_l", "clip_g"), vae="sdxl", latent="EmptyLatentImage"),
    "sd35": Form(has_checkpoint=True, encoders=("clip_l", "clip_g", "t5xxl"), vae="sd3", latent="EmptySD3LatentImage",
                 rows={"t5xxl": SD3_WIDTH}),
    "flux": Form(encoders=("clip_l", "t5xxl"), clip_type="flux", vae="flux", latent="EmptySD3LatentImage"),
    "flux2_klein": Form(encoders=("qwen3_4b",), clip_type="flux2", vae="flux2", latent="EmptyFlux2LatentImage",
                        network={"context_in_dim": 3 * WIDTH}),
    "chroma": Form(encoders=("t5xxl",), clip_type="chroma", vae="flux", latent="EmptySD3LatentImage"),
    "z_image": Form(encoders=("qwen3_4b",), clip_type="lumina2", vae="flux", latent="EmptySD3LatentImage"),
    "qwen_image": Form(encoders=("qwen25_7b",), clip_type="qwen_image", vae="wan", latent="EmptySD3LatentImage"),
    "anima": Form(encoders=("qwen3_06b",), clip_type="stable_diffusion", vae="wan", latent="EmptySD3LatentImage",
                  rows={"qwen3_06b": TEXT_OF_ANIMA}),
}
"""Every family that goes through the server, by the name of its case."""
