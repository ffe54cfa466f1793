"""Prototypical embedding: token vectors that start near the object's look and its class (Lu, Xie, Guo 2024, eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require
from ..model.image_text import ImageTextEncoder, unit


@dataclass(frozen=True, kw_only=True)
class PrototypeConfig:
    """How a prototype is fitted: Adam on its vectors (*ours*; the paper gives the loss and their number).

    Attributes:
        steps: of Adam.
        learning_rate: of Adam.
    """

    steps: int = 100
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        require(self.steps >= 1, "fit_steps", self.steps, "1 or more", "Use 100.")
        require(self.learning_rate > 0, "fit_rate", self.learning_rate, "a number above 0", "Use 5e-3.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prototype:
    """What was fitted.

    Attributes:
        vectors: (m, D), in the token space of the encoder's text side.
        before: cos(T(c_p), θ_m) of the start.
        after: the same of the result.
    """

    vectors: Tensor
    before: float
    after: float


def prototype_target(encoder: ImageTextEncoder, class_noun: str, images: Sequence[Tensor],
                     masked: Sequence[Tensor]) -> Tensor:
    """θ_m(I(x), I(x_m), T(c_c)): the mean of the unit vectors, (P,), itself of unit length.

    Args:
        images: photos x, (H, W, 3) in 0..1.
        masked: the cut-out objects x_m of the same form; fewer where photos have no mask.

    Source: Lu, Xie, Guo 2024, 3.3. The mean of several photos, each with its object and the class, is ours.
    """
    with torch.no_grad():
        looks = [torch.stack([encoder.embed_images(picture[None])[0] for picture in pictures]).mean(dim=0)
                 for pictures in (images, masked) if pictures]
        return unit(torch.stack([*looks, encoder.embed_texts([class_noun])[0]]).mean(dim=0))


def prototype_cosine(encoder: ImageTextEncoder, vectors: Tensor, class_noun: str, target: Tensor) -> Tensor:
    """cos(T(c_p), θ_m) with c_p = '{V} {noun}', a scalar with a graph to the vectors (m, D)."""
    return encoder.embed_tokens([[*vectors, *encoder.tokenize(class_noun)]])[0] @ target


def fit_prototype(encoder: ImageTextEncoder, start: Tensor, class_noun: str, target: Tensor,
                  config: PrototypeConfig) -> Prototype:
    """Move vectors (m, D) so that '{V} {noun}' reads like the target: minimise 1 - cos(T(c_p), θ_m) by Adam.

    Source: Lu, Xie, Guo 2024, eq. 2.
    """
    with torch.inference_mode(False), torch.enable_grad():
        vectors = start.detach().clone().float().requires_grad_(True)
        target = target.detach().clone()
        optimizer = torch.optim.Adam([vectors], lr=config.learning_rate)
        for _ in range(config.steps):
            loss = 1 - prototype_cosine(encoder, vectors, class_noun, target)
            (vectors.grad,) = torch.autograd.grad(loss, [vectors])  # the encoder's own weights get none
            optimizer.step()
        with torch.no_grad():
            before, after = (float(prototype_cosine(encoder, found, class_noun, target))
                             for found in (start.detach().clone().float(), vectors))
        return Prototype(vectors=vectors.detach().cpu(), before=before, after=after)
