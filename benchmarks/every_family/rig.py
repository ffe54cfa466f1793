"""A case with its MODEL, and what the trainer makes of it: the counterpart of `stock.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor, nn

from ...core.model.contracts import Conditioning, WordVectors
from ...core.model.schedule import NoiseSchedule
from ...nodes.bridge.model.denoiser import ComfyDenoiser, schedule_of
from ...nodes.bridge.photos.latents import in_model_space
from ...nodes.bridge.text.encoder import row_of
from .case import Case, Entry, noise
from .networks import build_model

CAPTION = "a sks dog"
CLASS_PROMPT = "a dog"
NOISE_SEED = 7
SHARE = {"flow": 0.3, "epsilon": 0.5, "v_prediction": 0.5}
"""At which part of the schedule predictions are compared: text and picture both count there."""


@dataclass(frozen=True, eq=False)
class Rig:
    """A case, ready to be measured.

    Attributes:
        model: its MODEL.
    """

    case: Case
    model: Any

    @classmethod
    def of(cls, case: Case) -> Rig:
        """The case with a new MODEL."""
        return cls(case, build_model(case))

    @property
    def entries(self) -> tuple[Entry, Entry]:
        """The conditioning of the caption, and of a prompt that has another number of tokens."""
        return self.case.entry(5, self.case.lengths[0]), self.case.entry(6, self.case.lengths[1])

    @property
    def rows(self) -> tuple[Conditioning, Conditioning]:
        """The same as the trainer has them."""
        first, second = (row_of(*entry) for entry in self.entries)
        return first, second

    @property
    def latent(self) -> Tensor:
        """One picture as a LATENT holds it: (1, C, h, w), or (1, C, 1, h, w)."""
        return 0.5 * noise(1, *self.case.latent, seed=1)

    @property
    def latents(self) -> Tensor:
        """The same picture as the trainer has it: (C, h, w) in the model's latent space."""
        raw = self.latent[0]
        return in_model_space(self.model, [raw[:, 0] if raw.ndim == 4 else raw])[0]

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The MODEL's."""
        return schedule_of(self.model)

    @property
    def index(self) -> int:
        """The level of the schedule at which predictions are compared."""
        return int(SHARE[self.schedule.prediction] * len(self.schedule))

    @property
    def sigma(self) -> float:
        """The same level, as a stock sampler counts it."""
        schedule, index = self.schedule, self.index
        if isinstance(self.model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
            return float(schedule.sigmas[index])
        return float(schedule.data_std * schedule.sigmas[index] / schedule.alphas[index])

    def denoiser(self) -> ComfyDenoiser:
        """What the trainer calls; inside `trainable`."""
        return ComfyDenoiser(self.model, 8 * self.case.latent[-1])

    @torch.no_grad()
    def own_step(self, row: Conditioning) -> Tensor:
        """What `stock.stock_step` gives, by the trainer's own schedule and denoiser; inside `trainable`."""
        schedule, level = self.schedule, torch.tensor([self.index])
        eps = noise(1, *self.latents.shape, seed=NOISE_SEED)
        noisy = schedule.add_noise(self.latents[None], eps, level)
        clean = estimate(schedule, noisy, self.denoiser()(noisy, level, [row]), self.index)
        framed = clean[:, :, None] if self.latent.ndim == 5 else clean
        picture: Tensor = self.model.model.process_latent_out(framed)
        return picture


def estimate(schedule: NoiseSchedule, noisy: Tensor, raw: Tensor, index: int) -> Tensor:
    """z from z_t and the network's raw prediction, by the schedule's own algebra."""
    alpha, sigma = schedule.alphas[index], schedule.sigmas[index]
    if schedule.prediction == "flow":
        return noisy - sigma * raw
    unscaled = (noisy - sigma * raw) / alpha if schedule.prediction == "epsilon" else alpha * noisy - sigma * raw
    return schedule.data_std * unscaled


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())


class Prompts:
    """`core.model.contracts.TextEncoder` of a case: the caption has its first text, every other prompt its second."""

    adapter_keys: Mapping[str, str] = {}
    widths: Mapping[str, int] = {}

    def __init__(self, rig: Rig):
        self.module = nn.Module()
        self._caption, self._other = rig.rows

    def encode(self, prompts: Sequence[str], vectors: WordVectors | None = None,
               pictures: Sequence[Sequence[Tensor]] = ()) -> list[Conditioning]:
        return [self._caption if prompt == CAPTION else self._other for prompt in prompts]

    def token_rows(self, text: str) -> dict[str, Tensor]:
        return {}
