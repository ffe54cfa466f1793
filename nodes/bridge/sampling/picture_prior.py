"""What the loaded model draws for 'a {V} {noun}', beside 'a {noun}', as features that `core.picture_prior` compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....core.errors import require
from ....core.store.class_images import PriorRecipe
from ....core.subject.picture_prior import picture_pull
from ....core.subject.subject import CAPTION_TEMPLATE, CLASS_TEMPLATE, fill
from .class_images import decode, make_class_images, model_digest, text_encoder_digest

BATCH = 4
SAMPLER, SCHEDULER = "euler_ancestral", "normal"


@dataclass(frozen=True, kw_only=True, eq=False)
class PicturePrior:
    """How a few pictures of each candidate are made; they are kept on disk like class images.

    Attributes:
        image_text: a CLIP whose picture vectors are compared; None = the latents are (layout and colours).
        vae: decodes pictures for it.
        count: pictures of each candidate, from the same noise as those of 'a {noun}'.
        size: width and height in pixels.
    """

    model: Any
    clip: Any
    vae: Any = None
    image_text: Any = None
    count: int = 4
    steps: int = 8
    size: int = 512
    cfg: float = 7.0

    def __post_init__(self) -> None:
        require(self.image_text is None or getattr(self.vae, "first_stage_model", None) is not None, "vae", "nothing",
                "a VAE beside the Image-Text Encoder, which looks at pictures",
                "Connect the checkpoint's VAE, or disconnect image_text.")

    def pulls(self, identifiers: Sequence[str], noun: str) -> list[float]:
        """`picture_pull` of each identifier."""
        plain = self._features(fill(CLASS_TEMPLATE, "", noun), noun)
        return [picture_pull(self._features(fill(CAPTION_TEMPLATE, text, noun), noun), plain) for text in identifiers]

    def _features(self, prompt: str, noun: str) -> Tensor:
        recipe = PriorRecipe(model=model_digest(self.model), text_encoder=text_encoder_digest(self.clip), prompt=prompt,
                             size=self.size, sampler=SAMPLER, scheduler=SCHEDULER, steps=self.steps, cfg=self.cfg,
                             seed=0)
        latents = make_class_images(self.model, self.clip, recipe, noun, self.count, BATCH)[0].latents
        if self.image_text is None:
            return latents.flatten(1)
        pictures = decode(self.vae, latents, BATCH)
        found: Tensor = torch.cat([self.image_text.embed_images(rows) for rows in pictures.split(BATCH)])
        return found
